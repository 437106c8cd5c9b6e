//! Nexthop objects of the fake kernel.

use nix::errno::Errno;

use super::{FakeKernel, State};
use crate::monitor::Event;
use crate::route::object::{Body, Object, ObjectChange, ObjectId};
use crate::route::{Change, IfIndex, Interface};

impl FakeKernel {
    /// A kernel with nothing in it that knows nexthop objects.
    pub fn with_objects() -> Self {
        let kernel = Self::default();
        kernel.state().has_objects = true;
        kernel
    }

    /// An interface that is up loses its carrier or has it again. Without one its objects go, and IPv4 routes that name
    /// them, silently.
    pub fn set_carrier(&self, index: u32, carrier: bool) {
        let known = self.state().interfaces.get(&IfIndex(index)).cloned();
        if let Some(known) = known {
            self.interface_is(Interface { carrier, ..known });
        }
    }

    /// Somebody writes an object, whatever was there.
    pub fn put_object(&self, object: Object) {
        let mut state = self.state();
        state.objects.insert(object.id, object.clone());
        state.tell(Event::Object(object));
    }

    /// Somebody deletes an object: its routes go along, of IPv4 ones nothing is told, and it goes out of its groups.
    pub fn delete_object(&self, id: ObjectId) {
        self.state().remove_object(id, true);
    }

    /// Refuses the next `times` objects, whichever they are.
    pub fn refuse_objects(&self, errno: Errno, times: u32) {
        self.state().refuse_objects = Some((errno, times));
    }

    /// Every object, by id.
    pub fn all_objects(&self) -> Vec<Object> {
        self.state().objects.values().cloned().collect()
    }
}

impl State {
    pub(super) fn flush_objects(&mut self, index: IfIndex) {
        let by = |o: &&Object| matches!(o.body, Body::Single(hop) if hop.interface == Some(index));
        let ids: Vec<_> = self.objects.values().filter(by).map(|o| o.id).collect();
        ids.into_iter().for_each(|id| self.remove_object(id, false));
    }

    fn remove_object(&mut self, id: ObjectId, told: bool) {
        if self.objects.remove(&id).is_none() {
            return;
        }
        if told {
            self.tell(Event::ObjectGone(id));
        }
        let named = self.routes.values().filter(|r| r.object == Some(id));
        let named: Vec<_> = named.cloned().collect();
        for route in named {
            self.routes.remove(&route.key());
            if !route.prefix.is_v4() {
                self.tell(Event::RouteGone(route));
            }
        }
        let groups: Vec<_> = self.objects.values().filter(|o| has(o, id)).cloned().collect();
        for mut group in groups {
            let Body::Group(members) = &mut group.body else {
                continue;
            };
            members.retain(|(member, _)| *member != id);
            if members.is_empty() {
                self.remove_object(group.id, told);
                continue;
            }
            self.objects.insert(group.id, group.clone());
            if told {
                self.tell(Event::Object(group));
            }
        }
    }

    pub(super) fn change_object(&mut self, change: &Change) -> Result<(), Errno> {
        let Change::Object(change) = change else {
            return Err(Errno::EINVAL);
        };
        if !self.has_objects {
            return Err(Errno::EOPNOTSUPP);
        }
        if let Some((errno, times)) = &mut self.refuse_objects
            && *times > 0
        {
            *times -= 1;
            return Err(*errno);
        }
        let there = self.objects.get(&change.id());
        let object = match (change, there) {
            (ObjectChange::Create(_), Some(_)) => return Err(Errno::EEXIST),
            (ObjectChange::Replace(_) | ObjectChange::Delete(_), None) => return Err(Errno::ENOENT),
            (ObjectChange::Delete(id), Some(_)) => {
                self.remove_object(*id, false);
                return Ok(());
            }
            (ObjectChange::Replace(o), Some(before)) if is_group(o) != is_group(before) => return Err(Errno::EINVAL),
            (ObjectChange::Create(o) | ObjectChange::Replace(o), _) => o,
        };
        match &object.body {
            Body::Single(hop) => {
                self.reaches(hop)?;
                let interface = hop.interface.and_then(|i| self.interfaces.get(&i));
                if !interface.is_some_and(|i| i.carrier) {
                    return Err(Errno::ENETDOWN);
                }
            }
            Body::Group(members) if !members.iter().all(|(id, _)| self.objects.contains_key(id)) => {
                return Err(Errno::EINVAL);
            }
            Body::Group(_) | Body::Other => {}
        }
        self.objects.insert(object.id, object.clone());
        Ok(())
    }
}

fn is_group(object: &Object) -> bool {
    matches!(object.body, Body::Group(_))
}

fn has(object: &Object, id: ObjectId) -> bool {
    matches!(&object.body, Body::Group(members) if members.iter().any(|(member, _)| *member == id))
}
