//! A map from prefixes with longest-prefix match: a binary trie with path compression.

use crate::Prefix;

/// A map keyed by prefix. Exact lookups, longest match and subtree walks; both families in one map.
#[derive(Debug, Clone)]
pub struct PrefixMap<V> {
    v4: Option<Box<Node<V>>>,
    v6: Option<Box<Node<V>>>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Node<V> {
    /// Aligned to the top of 128 bits, zero beyond `len`.
    bits: u128,
    len: u8,
    entry: Option<(Prefix, V)>,
    children: [Option<Box<Node<V>>>; 2],
}

fn key(prefix: Prefix) -> (u128, u8) {
    match prefix {
        Prefix::V4(p) => (crate::Family::top_bits(p), prefix.len()),
        Prefix::V6(p) => (crate::Family::top_bits(p), prefix.len()),
    }
}

/// How many leading bits two keys share, at most the shorter length.
fn common(a: (u128, u8), b: (u128, u8)) -> u8 {
    let same = (a.0 ^ b.0).leading_zeros() as u8; // at most 128
    same.min(a.1).min(b.1)
}

fn bit(bits: u128, position: u8) -> usize {
    usize::from(bits >> (127 - position) & 1 == 1)
}

fn truncate(bits: u128, len: u8) -> u128 {
    bits & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

impl<V> Node<V> {
    fn leaf(prefix: Prefix, value: V) -> Box<Self> {
        let (bits, len) = key(prefix);
        Box::new(Node {
            bits,
            len,
            entry: Some((prefix, value)),
            children: [None, None],
        })
    }
}

impl<V> Default for PrefixMap<V> {
    fn default() -> Self {
        PrefixMap {
            v4: None,
            v6: None,
            len: 0,
        }
    }
}

impl<V> PrefixMap<V> {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many prefixes it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Does it hold none?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn root(&self, prefix: Prefix) -> &Option<Box<Node<V>>> {
        if prefix.is_v4() { &self.v4 } else { &self.v6 }
    }

    /// Inserts, returning what was there.
    pub fn insert(&mut self, prefix: Prefix, value: V) -> Option<V> {
        let k = key(prefix);
        let mut slot = if prefix.is_v4() { &mut self.v4 } else { &mut self.v6 };
        loop {
            let Some(shared) = slot.as_ref().map(|n| common((n.bits, n.len), k)) else {
                *slot = Some(Node::leaf(prefix, value));
                self.len += 1;
                return None;
            };
            let node_len = slot.as_ref().map_or(0, |n| n.len);
            if shared < node_len {
                // The new prefix leaves the path inside this node: split it.
                let mut fork = Box::new(Node {
                    bits: truncate(k.0, shared),
                    len: shared,
                    entry: None,
                    children: [None, None],
                });
                if let Some(old) = slot.take() {
                    let side = bit(old.bits, shared);
                    fork.children[side] = Some(old);
                }
                if shared == k.1 {
                    fork.entry = Some((prefix, value));
                } else {
                    fork.children[bit(k.0, shared)] = Some(Node::leaf(prefix, value));
                }
                *slot = Some(fork);
                self.len += 1;
                return None;
            }
            let node = slot.as_mut()?;
            if node_len == k.1 {
                let old = node.entry.replace((prefix, value));
                self.len += usize::from(old.is_none());
                return old.map(|(_, v)| v);
            }
            slot = &mut node.children[bit(k.0, node_len)];
        }
    }

    /// Removes, returning what was there.
    pub fn remove(&mut self, prefix: Prefix) -> Option<V> {
        let slot = if prefix.is_v4() { &mut self.v4 } else { &mut self.v6 };
        let removed = remove(slot, key(prefix));
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// The value of exactly this prefix.
    pub fn get(&self, prefix: Prefix) -> Option<&V> {
        let k = key(prefix);
        let mut node = self.root(prefix).as_deref()?;
        while node.len < k.1 {
            if common((node.bits, node.len), k) < node.len {
                return None;
            }
            node = node.children[bit(k.0, node.len)].as_deref()?;
        }
        node.entry.as_ref().filter(|(p, _)| *p == prefix).map(|(_, v)| v)
    }

    /// The most specific entry that covers `prefix` (itself included).
    pub fn longest_match(&self, prefix: Prefix) -> Option<(Prefix, &V)> {
        self.matches(prefix).last()
    }

    /// Every entry that covers `prefix`, the least specific first.
    pub fn matches(&self, prefix: Prefix) -> impl Iterator<Item = (Prefix, &V)> {
        let k = key(prefix);
        let mut next = self.root(prefix).as_deref();
        std::iter::from_fn(move || {
            loop {
                let node = next?;
                if node.len > k.1 || common((node.bits, node.len), k) < node.len {
                    next = None;
                    return None;
                }
                next = if node.len < k.1 {
                    node.children[bit(k.0, node.len)].as_deref()
                } else {
                    None
                };
                if let Some((p, v)) = &node.entry {
                    return Some((*p, v));
                }
            }
        })
    }

    /// Every entry that `prefix` covers (itself included), sorted.
    pub fn covered_by(&self, prefix: Prefix) -> impl Iterator<Item = (Prefix, &V)> {
        let k = key(prefix);
        let mut node = self.root(prefix).as_deref();
        while let Some(n) = node {
            if common((n.bits, n.len), k) < n.len.min(k.1) {
                node = None;
            } else if n.len < k.1 {
                node = n.children[bit(k.0, n.len)].as_deref();
            } else {
                break;
            }
        }
        Walk {
            stack: node.into_iter().collect(),
        }
    }

    /// Every entry, IPv4 first, sorted by address and then by length.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix, &V)> {
        let stack = [self.v6.as_deref(), self.v4.as_deref()].into_iter().flatten().collect();
        Walk { stack }
    }
}

fn remove<V>(slot: &mut Option<Box<Node<V>>>, k: (u128, u8)) -> Option<V> {
    let node = slot.as_mut()?;
    if node.len > k.1 || common((node.bits, node.len), k) < node.len {
        return None;
    }
    let removed = if node.len == k.1 {
        node.entry.take().map(|(_, v)| v)
    } else {
        remove(&mut node.children[bit(k.0, node.len)], k)
    };
    // A node without an entry needs two children to have a reason to be.
    if removed.is_some() && node.entry.is_none() {
        match (node.children[0].take(), node.children[1].take()) {
            (Some(a), Some(b)) => node.children = [Some(a), Some(b)],
            (only, None) | (None, only) => *slot = only,
        }
    }
    removed
}

struct Walk<'a, V> {
    stack: Vec<&'a Node<V>>,
}

impl<'a, V> Iterator for Walk<'a, V> {
    type Item = (Prefix, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(node) = self.stack.pop() {
            self.stack.extend(node.children.iter().rev().flatten().map(|c| &**c));
            if let Some((p, v)) = &node.entry {
                return Some((*p, v));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Family, Prefix4, Prefix6};
    use proptest::prelude::*;

    fn prefixes() -> impl Strategy<Value = Prefix> {
        // Few distinct bits, so that prefixes nest and collide.
        (any::<bool>(), 0u128..16, 0u8..=6).prop_map(|(v4, bits, len)| {
            if v4 {
                Prefix4::from_top_bits(bits << 122, len).unwrap().erase()
            } else {
                Prefix6::from_top_bits(bits << 122, len).unwrap().erase()
            }
        })
    }

    proptest! {
        #[test]
        fn behaves_as_a_sorted_map(ops in proptest::collection::vec((prefixes(), any::<Option<u8>>()), 0..60), probe in prefixes()) {
            let mut map = PrefixMap::new();
            let mut model = BTreeMap::new();
            for (p, value) in ops {
                match value {
                    Some(v) => prop_assert_eq!(map.insert(p, v), model.insert(p, v)),
                    None => prop_assert_eq!(map.remove(p), model.remove(&p)),
                }
                prop_assert_eq!(map.len(), model.len());
            }
            let pairs: Vec<_> = map.iter().map(|(p, v)| (p, *v)).collect();
            prop_assert_eq!(&pairs, &model.iter().map(|(p, v)| (*p, *v)).collect::<Vec<_>>());
            prop_assert_eq!(map.get(probe), model.get(&probe));
            let mut covering: Vec<_> = pairs.iter().copied().filter(|(p, _)| p.covers(probe)).collect();
            covering.sort_by_key(|(p, _)| p.len());
            prop_assert_eq!(map.matches(probe).map(|(p, v)| (p, *v)).collect::<Vec<_>>(), covering.clone());
            prop_assert_eq!(map.longest_match(probe).map(|(p, v)| (p, *v)), covering.last().copied());
            let covered: Vec<_> = pairs.iter().copied().filter(|(p, _)| probe.covers(*p)).collect();
            prop_assert_eq!(map.covered_by(probe).map(|(p, v)| (p, *v)).collect::<Vec<_>>(), covered);
        }
    }

    #[test]
    fn host_routes_of_both_families_at_full_length() {
        let mut map = PrefixMap::new();
        for s in ["10.0.0.1/32", "fd00::1/128", "0.0.0.0/0", "::/0"] {
            map.insert(s.parse().unwrap(), s);
        }
        assert_eq!(
            map.longest_match("10.0.0.1/32".parse().unwrap()).unwrap().1,
            &"10.0.0.1/32"
        );
        assert_eq!(
            map.longest_match("10.0.0.2/32".parse().unwrap()).unwrap().1,
            &"0.0.0.0/0"
        );
        assert_eq!(
            map.longest_match("fd00::1/128".parse().unwrap()).unwrap().1,
            &"fd00::1/128"
        );
    }
}
