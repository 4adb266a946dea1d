//! The rules language: what may leave.
