//! How deep a call goes: the free stack is painted, the call is made, and the lowest word that has lost its paint is its
//! mark. No interrupt is enabled that could leave one of its own.

use crate::machine::stack_pointer;

/// Bytes that are painted. A call that reaches the end of them has gone deeper than can be told.
const PAINTED: usize = 8 * 1024;
const PAINT: u32 = 0x5af0_c3e1;

/// How many bytes of stack `call` takes, from the instruction that calls it on.
#[inline(never)]
pub(crate) fn depth(call: &mut dyn FnMut()) -> usize {
    let top = stack_pointer();
    let bottom = top - PAINTED;
    for address in (bottom..top).step_by(4) {
        // SAFETY: this lies below the stack's end and above the static memory: the stack has megabytes. This function
        // calls nothing while it paints.
        unsafe { core::ptr::with_exposed_provenance_mut::<u32>(address).write_volatile(PAINT) };
    }
    call();
    let mut address = bottom;
    // SAFETY: as above.
    while address < top && unsafe { core::ptr::with_exposed_provenance::<u32>(address).read_volatile() } == PAINT {
        address += 4;
    }
    assert!(address != bottom, "deeper than the paint");
    top - address
}
