//! Large groups of servers: how a client gets its server without examining all of them.
//!
//! The servers of a large group are divided into clusters by their seeds. Weighted rendezvous hashing selects a cluster
//! for a client, where the weight of a cluster is the sum of its servers' weights, and then a server of the cluster in
//! the same way. So each server has its share of the clients. Adding or removing a server moves its own clients, and at
//! most as many others within its cluster. The servers of a cluster are contiguous in the group's chain.
//!
//! For some groups the index holds the first entry and the weight of each cluster. For the others these are found by
//! walking the chain, with the same result.

use crate::table::server::{NONE, ServerSlot};

/// Groups of more servers than this are large. Other groups choose among all their servers.
pub(crate) const FEW_SERVERS: usize = 32;

/// How many clusters a large group has.
pub(crate) const CLUSTERS: usize = 32;

/// The clusters of a group: the first entry and the weight of each.
pub(crate) type Clusters = [[u32; 2]; CLUSTERS];

/// Words of the index for one group: the number of the first entry of its chain plus one, and its clusters.
pub(crate) const GROUP_WORDS: usize = 1 + 2 * CLUSTERS;

/// How many large groups fit into the index of a storage with this many server entries.
#[cfg(feature = "alloc")]
pub(crate) const fn groups_for(servers: usize) -> usize {
    match servers / 128 {
        _ if servers <= FEW_SERVERS => 0,
        0 => 1,
        many if many > 32 => 32,
        groups => groups,
    }
}

/// The cluster of a server with this seed.
pub(crate) const fn cluster_of(seed: u32) -> usize {
    (seed >> 27) as usize
}

/// The clusters of the group whose chain begins with this entry.
pub(crate) fn clusters_of(slots: &[ServerSlot], first: u16) -> Clusters {
    let mut clusters = [[NONE as u32, 0]; CLUSTERS];
    let mut entry = first;
    for _ in 0..slots.len() {
        let Some(slot) = slots.get(usize::from(entry)) else {
            break;
        };
        if let Some([first, weight]) = clusters.get_mut(cluster_of(slot.seed)) {
            *weight += u32::from(slot.weight());
            *first = if *first == u32::from(NONE) { u32::from(entry) } else { *first };
        }
        entry = slot.next;
    }
    clusters
}

/// The index of large groups.
#[derive(Debug)]
pub(crate) struct Groups<'a>(pub(crate) &'a mut [u32]);

/// The clusters of the group whose chain begins with this entry, if the index has them.
pub(crate) fn find(words: &[u32], first: u16) -> Option<&Clusters> {
    let owner = u32::from(first) + 1;
    let (groups, _) = words.as_chunks::<GROUP_WORDS>();
    let group = groups.iter().find(|group| group[0] == owner)?;
    group.get(1..)?.as_chunks().0.first_chunk()
}

impl Groups<'_> {
    /// Enters the group whose chain begins with this entry, if there is room.
    pub(crate) fn enter(&mut self, slots: &[ServerSlot], first: u16) {
        if let Some([owner, clusters @ ..]) = self.group(0) {
            *owner = u32::from(first) + 1;
            clusters.copy_from_slice(clusters_of(slots, first).as_flattened());
        }
    }

    /// Records the new weight of a server of this cluster, if the index has the group.
    pub(crate) fn reweigh(&mut self, first: u16, cluster: usize, old: u16, new: u16) {
        if let Some([_, clusters @ ..]) = self.group(u32::from(first) + 1)
            && let Some([_, weight]) = clusters.as_chunks_mut().0.get_mut(cluster)
        {
            *weight = weight.saturating_sub(u32::from(old)).saturating_add(u32::from(new));
        }
    }

    /// Removes the group whose chain begins with this entry, if it is there.
    pub(crate) fn leave(&mut self, first: u16) {
        if let Some([owner, ..]) = self.group(u32::from(first) + 1) {
            *owner = 0;
        }
    }

    /// Records that entry `new` has replaced entry `old`, in any group.
    pub(crate) fn replace(&mut self, old: u16, new: u16) {
        for [owner, clusters @ ..] in self.0.as_chunks_mut::<GROUP_WORDS>().0 {
            if *owner == u32::from(old) + 1 {
                *owner = u32::from(new) + 1;
            }
            let firsts = clusters.iter_mut().step_by(2);
            firsts.filter(|first| **first == u32::from(old)).for_each(|first| *first = u32::from(new));
        }
    }

    fn group(&mut self, owner: u32) -> Option<&mut [u32; GROUP_WORDS]> {
        self.0.as_chunks_mut().0.iter_mut().find(|group: &&mut [u32; GROUP_WORDS]| group[0] == owner)
    }
}
