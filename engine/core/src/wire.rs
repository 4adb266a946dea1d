//! Views of protocol headers.
