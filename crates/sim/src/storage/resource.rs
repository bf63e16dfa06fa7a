//! Storage of one resource, and when it was changed.

use std::any::Any;
use std::cell::{Cell, RefCell};

use crate::storage::stamp::{Stamp, age};
use crate::value::{DecodeError, Reader, Value};

/// A resource and when it was changed.
pub(crate) struct ResourceCell<T> {
    pub(crate) value: RefCell<T>,
    pub(crate) changed: Cell<Stamp>,
}

impl<T: Value> ResourceCell<T> {
    pub(crate) fn new() -> Self {
        Self { value: RefCell::new(T::initial()), changed: Cell::new(0) }
    }
}

/// A resource without its type.
pub(crate) trait AnyResource: Any + Send {
    fn as_any(&self) -> &dyn Any;
    /// Takes the value, and when it was changed, from a resource of the same type.
    fn copy_from(&mut self, other: &dyn AnyResource);
    fn canonicalise(&mut self, since: Stamp);
    fn age(&mut self);
    fn encode_value(&self, out: &mut Vec<u8>);
    fn decode_value(&mut self, input: &mut Reader<'_>) -> Result<(), DecodeError>;
    fn changed(&self) -> Stamp;
    fn set_changed(&mut self, stamp: Stamp);
}

impl<T: Value> AnyResource for ResourceCell<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn copy_from(&mut self, other: &dyn AnyResource) {
        if let Some(other) = other.as_any().downcast_ref::<Self>() {
            self.value.get_mut().clone_from(&*other.value.borrow());
            self.changed.set(other.changed.get());
        }
    }
    fn canonicalise(&mut self, since: Stamp) {
        if T::CANONICALISES && self.changed.get() > since {
            self.value.get_mut().canonicalise();
        }
    }
    fn age(&mut self) {
        age(self.changed.get_mut());
    }
    fn encode_value(&self, out: &mut Vec<u8>) {
        self.value.borrow().encode(out);
    }
    fn decode_value(&mut self, input: &mut Reader<'_>) -> Result<(), DecodeError> {
        *self.value.get_mut() = T::decode(input)?;
        Ok(())
    }
    fn changed(&self) -> Stamp {
        self.changed.get()
    }
    fn set_changed(&mut self, stamp: Stamp) {
        self.changed.set(stamp);
    }
}
