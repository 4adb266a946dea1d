//! Network namespaces with virtual cables between them, and a traffic mirror made by the kernel itself.
//!
//! Names carry our process id and a count, so that test runs never meet; everything goes away when dropped. Needs root
//! and iproute2.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns};
use nix::unistd::geteuid;

use crate::process::run;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A network namespace with loopback up.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new, empty one.
    pub fn new(label: &str) -> Result<Self> {
        ensure!(
            geteuid().is_root(),
            "network namespaces need root: run the tests through tests/run"
        );
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self {
            name: format!("snt{}-{number}-{label}", std::process::id()),
        };
        run(Command::new("ip").args(["netns", "add", &namespace.name]))?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs inside; it keeps the process id that it is started with.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// The same command, inside.
    pub fn enter(&self, outside: &Command) -> Command {
        let mut command = self.command(outside.get_program());
        command.args(outside.get_args());
        for (name, value) in outside.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// `ip ARGUMENTS` inside.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        run(Command::new("ip")
            .args(["-n", &self.name])
            .args(arguments.split_whitespace()))
    }

    /// `tc ARGUMENTS` inside.
    pub fn tc(&self, arguments: &str) -> Result<String> {
        run(self.command("tc").args(arguments.split_whitespace()))
    }

    /// Runs `work` on a thread inside; sockets made there stay inside wherever they are used.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let path = format!("/run/netns/{}", self.name);
                let file = fs::File::open(&path).expect("our namespace is there until we drop it");
                setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing is left to do about a namespace that cannot be deleted.
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.name])
            .output();
    }
}

/// A cable: `left_name` in `left`, `right_name` in `right`, both up, with room for a mirror's outer headers.
pub fn cable(
    left: &Namespace,
    left_name: &str,
    right: &Namespace,
    right_name: &str,
    mtu: u32,
) -> Result<()> {
    let peer = ["peer", "name", right_name, "netns", &right.name];
    let add = ["-n", &left.name, "link", "add", left_name, "type", "veth"];
    run(Command::new("ip").args(add).args(peer)).context("is veth in this kernel?")?;
    for (namespace, name) in [(left, left_name), (right, right_name)] {
        namespace.ip(&format!("link set {name} mtu {mtu} up"))?;
    }
    Ok(())
}

/// A client and a server with a cable between them, and an appliance to which the server's traffic can be mirrored.
#[derive(Debug)]
pub struct Lab {
    /// 10.77.0.2 and fd77::2 on `c0`.
    pub client: Namespace,
    /// 10.77.0.1 and fd77::1 on `s0`; 10.78.0.1 and fd78::1 on `m0`.
    pub server: Namespace,
    /// 10.78.0.2 and fd78::2 on `a0`.
    pub appliance: Namespace,
}

impl Lab {
    /// Three new namespaces.
    pub fn new() -> Result<Self> {
        let lab = Self {
            client: Namespace::new("client")?,
            server: Namespace::new("server")?,
            appliance: Namespace::new("appliance")?,
        };
        cable(&lab.client, "c0", &lab.server, "s0", 1500)?;
        cable(&lab.server, "m0", &lab.appliance, "a0", 9000)?;
        let addresses = [
            (&lab.client, "c0", "10.77.0.2/24", "fd77::2/64"),
            (&lab.server, "s0", "10.77.0.1/24", "fd77::1/64"),
            (&lab.server, "m0", "10.78.0.1/24", "fd78::1/64"),
            (&lab.appliance, "a0", "10.78.0.2/24", "fd78::2/64"),
        ];
        for (namespace, interface, v4, v6) in addresses {
            namespace.ip(&format!("address add {v4} dev {interface}"))?;
            namespace.ip(&format!("address add {v6} dev {interface} nodad"))?;
        }
        Ok(lab)
    }

    /// Copies all that passes the server's `s0`, both ways, to `to` (an address of the appliance) in VXLAN.
    pub fn mirror(&self, vni: u32, to: &str) -> Result<()> {
        let local = if to.contains(':') {
            "fd78::1"
        } else {
            "10.78.0.1"
        };
        self.server.ip(&format!(
            "link add mirror0 type vxlan id {vni} local {local} remote {to} dstport 4789 dev m0 nolearning"
        ))?;
        self.server.ip("link set mirror0 up")?;
        self.server.tc("qdisc add dev s0 clsact")?;
        for direction in ["ingress", "egress"] {
            self.server.tc(&format!(
                "filter add dev s0 {direction} protocol all prio 2 u32 match u32 0 0 \
                 action mirred egress mirror dev mirror0"
            ))?;
        }
        Ok(())
    }
}
