//! Schemas that a user gives: what the messages of a method are.
//!
//! Source: a `FileDescriptorSet`, as protobuf compilers write it. It is read once, at the start.

use prost_reflect::{DescriptorPool, MessageDescriptor};

/// The types of all files of a set.
#[derive(Clone, Debug)]
pub struct Schemas {
    pool: DescriptorPool,
}

impl Schemas {
    /// Of the bytes of a set; or why it cannot be read.
    pub fn read(set: &[u8]) -> Result<Self, String> {
        let pool = DescriptorPool::decode(set).map_err(|error| error.to_string())?;
        if pool.services().len() == 0 {
            return Err("it has no service".to_owned());
        }
        Ok(Self { pool })
    }

    /// The types of the messages that a method takes and returns.
    pub(super) fn of_method(
        &self,
        service: &[u8],
        method: &[u8],
    ) -> Option<(MessageDescriptor, MessageDescriptor)> {
        let service = str::from_utf8(service).ok()?;
        let service = self.pool.get_service_by_name(service)?;
        let mut methods = service.methods();
        let found = methods.find(|known| known.name().as_bytes() == method)?;
        Some((found.input(), found.output()))
    }
}
