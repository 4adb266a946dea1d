//! A socket address as the kernel reads it: `struct sockaddr_in` and `struct sockaddr_in6`, byte for byte.

use std::net::SocketAddr;

/// The address in the kernel's form; the kernel copies it, so it needs no alignment.
pub(super) fn encode(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(28);
    match address {
        SocketAddr::V4(v4) => {
            bytes.extend((libc::AF_INET as u16).to_ne_bytes());
            bytes.extend(v4.port().to_be_bytes());
            bytes.extend(v4.ip().octets());
            bytes.extend([0; 8]);
        }
        SocketAddr::V6(v6) => {
            bytes.extend((libc::AF_INET6 as u16).to_ne_bytes());
            bytes.extend(v6.port().to_be_bytes());
            bytes.extend(v6.flowinfo().to_be_bytes());
            bytes.extend(v6.ip().octets());
            bytes.extend(v6.scope_id().to_ne_bytes());
        }
    }
    bytes
}

/// The `AF_*` number of the address.
pub(super) fn family(address: SocketAddr) -> i32 {
    if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    }
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    #[test]
    fn sizes_are_the_kernels() {
        assert_eq!(
            encode("127.0.0.1:80".parse().unwrap()).len(),
            size_of::<libc::sockaddr_in>()
        );
        assert_eq!(
            encode("[::1]:80".parse().unwrap()).len(),
            size_of::<libc::sockaddr_in6>()
        );
    }
}
