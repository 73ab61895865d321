//! What a router over TUN costs that does nothing: it reads frames and writes them again. `scripts/forwarding.py` compares
//! byway with it.
//!
//! `relay NAME QUEUES PREFIX...` routes the prefixes to the device, until SIGTERM.

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> Result<(), String> {
    use byway_host::config::Device;
    use byway_host::counters::Counters;
    use byway_host::device::{self, FRAME};
    use byway_host::router::Output;
    use byway_host::vnet::LENGTH;
    use rustix::event::{PollFd, PollFlags, poll};
    use signal_hook::consts::SIGTERM;
    use signal_hook::iterator::Signals;

    let mut words = std::env::args().skip(1);
    let mut next = || words.next().ok_or("relay NAME QUEUES PREFIX...");
    let (name, queues) = (next()?, next()?.parse().map_err(|_| "QUEUES is a number")?);
    let routes =
        words.map(|word| word.parse().map_err(|_| format!("{word} is no prefix"))).collect::<Result<_, _>>()?;
    let device = Device {
        name,
        queues,
        mtu: 1500,
        queue_length: 2000,
        offload: true,
        configure: true,
        address: None,
        routes,
        routes_listed: true,
        table: 7208,
        blackhole: false,
    };
    let (all, _) = device::open(&device)?;
    device::add_routes(&device)?;
    let totals = std::sync::Arc::new(std::sync::Mutex::new(Counters::default()));
    for mut queue in all {
        let totals = totals.clone();
        std::thread::spawn(move || -> std::io::Result<()> {
            let (mut frame, mut counters) = (Box::new([0; FRAME]), Counters::default());
            loop {
                while let Some(length) = queue.receive(&mut frame)? {
                    counters.received += 1;
                    counters.received_bytes += (length - LENGTH) as u64;
                    queue.send(&frame[..length], &mut counters);
                }
                if let Ok(mut totals) = totals.lock() {
                    totals.add(&core::mem::take(&mut counters));
                }
                poll(&mut [PollFd::new(&queue, PollFlags::IN)], None)?;
            }
        });
    }
    let mut signals = Signals::new([SIGTERM]).map_err(|error| error.to_string())?;
    println!("relaying");
    signals.forever().next();
    let Counters { received, received_bytes, .. } =
        totals.lock().map_or_else(|_| Counters::default(), |totals| *totals);
    println!("received={received} received_bytes={received_bytes}");
    Ok(())
}
