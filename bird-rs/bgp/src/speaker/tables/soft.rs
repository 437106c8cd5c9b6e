//! Views that change without being applied to what is announced already: `configure soft`.
//!
//! A member goes to a group with its new view that begins with what its old group announces. From then on each change of
//! a best path is seen by the new view. Such a group is nobody else's: who joins with the same view is told what the
//! view says, and so is a member of it whose filters are applied anew.

use super::{Membership, TableKey, Tables};
use crate::packet::AfiSafi;
use crate::speaker::export::View;
use crate::speaker::rounds::Rounds;
use crate::speaker::slot::{Group, Heir};

impl Tables {
    /// Gives a member another view for what changes from now on.
    pub(in crate::speaker) fn change_view_softly(
        &mut self,
        key: TableKey,
        at: Membership,
        view: View,
    ) -> Option<Membership> {
        with_slot!(self, key, |slot, shared| {
            let old = slot.groups.get(at.group).and_then(Option::as_ref)?;
            if old.view == view {
                return Some(at);
            }
            let heir = Heir::Of(at.group);
            let same = |group: &Option<Group>| group.as_ref().is_some_and(|g| g.heir == heir && g.view == view);
            let is_fib = matches!(view, View::Fib(_));
            let group = match slot.groups.iter().position(same) {
                Some(group) => group,
                None => {
                    let outbox = match is_fib {
                        true => old.outbox.heir(&mut shared.fib),
                        false => old.outbox.heir(&mut shared.wire),
                    };
                    let rounds = Rounds::default();
                    slot.place(Group {
                        view,
                        outbox,
                        rounds,
                        heir,
                    })
                }
            };
            let mut old = slot.groups[at.group].take()?;
            let new = slot.groups[group].as_mut()?;
            let member = match is_fib {
                true => old.outbox.move_to(at.member, &mut new.outbox, &mut shared.fib),
                false => old.outbox.move_to(at.member, &mut new.outbox, &mut shared.wire),
            };
            slot.groups[at.group] = Some(old);
            slot.tidy(at.group, shared);
            Some(Membership { group, member: member? })
        })
    }

    /// All views are changed: what is made from now on has other numbers.
    pub(in crate::speaker) fn close_heirs(&mut self) {
        let groups4 = self.v4.iter_mut().flat_map(|slot| slot.groups.iter_mut());
        let groups6 = self.v6.iter_mut().flat_map(|slot| slot.groups.iter_mut());
        for group in groups4.chain(groups6).flatten() {
            if let Heir::Of(_) = group.heir {
                group.heir = Heir::Closed;
            }
        }
    }
}
