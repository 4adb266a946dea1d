//! The queues of a network card as its driver reports them: `SIOCETHTOOL`, `include/uapi/linux/ethtool.h`.
//!
//! Only reads, which needs no privilege; changing them is the work of ethtool(8). A driver without the setting answers
//! EOPNOTSUPP, as virtual interfaces do.
#![expect(unsafe_code, reason = "ioctl(2) takes a pointer to a command")]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

const GET_RING: u32 = 0x10;
const GET_RECEIVE_OFFLOAD: u32 = 0x2b;
const GET_CHANNELS: u32 = 0x3c;

/// A number as it is, and the largest that the driver takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sized {
    /// As it is.
    pub now: u32,
    /// At most.
    pub max: u32,
}

/// Descriptors of the receive ring of each queue (`struct ethtool_ringparam`).
pub fn receive_ring(interface: &str) -> io::Result<Sized> {
    let [_, max, _, _, _, now, _, _, _] = query(interface, GET_RING, [0; 9])?;
    Ok(Sized { now, max })
}

/// Whether segments of one flow are merged on arrival (GRO; `struct ethtool_value`).
pub fn merges_segments(interface: &str) -> io::Result<bool> {
    let [_, on] = query(interface, GET_RECEIVE_OFFLOAD, [0; 2])?;
    Ok(on != 0)
}

/// Queues that receive (`struct ethtool_channels`): those for both directions, or else those for receiving alone.
pub fn receive_queues(interface: &str) -> io::Result<Sized> {
    let [_, max_rx, _, _, max_both, rx, _, _, both] = query(interface, GET_CHANNELS, [0; 9])?;
    Ok(if max_both > 0 {
        Sized {
            now: both,
            max: max_both,
        }
    } else {
        Sized {
            now: rx,
            max: max_rx,
        }
    })
}

/// Gives the driver `command` with room for its answer. All structures here are 32-bit numbers, the command first.
fn query<const N: usize>(
    interface: &str,
    command: u32,
    mut answer: [u32; N],
) -> io::Result<[u32; N]> {
    answer[0] = command;
    // SAFETY: `ifreq` is plain numbers and pointers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = byte.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_data = answer.as_mut_ptr().cast();
    // Any socket will do (netdevice(7)).
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: the kernel writes the structure of `command` at `ifru_data`, and each caller's `N` is that structure's
    // size; `answer` and `request` outlive the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_merges_and_has_no_ring() {
        assert!(merges_segments("lo").is_ok());
        assert_eq!(
            receive_ring("lo").unwrap_err().raw_os_error(),
            Some(libc::EOPNOTSUPP)
        );
        for name in ["no-such0", "a-name-that-is-longer-than-any"] {
            let error = receive_queues(name).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{name}");
        }
    }
}
