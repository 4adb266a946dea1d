//! Which packets of the interfaces are read.

/// What a live capture reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureMode {
    /// Everything on the interfaces, tunnelled or not.
    Interfaces,
    /// Only what arrives in a VXLAN tunnel: the interface belongs to the target of a traffic mirror.
    Mirror,
}
