//! The choice of interfaces to capture on, so that every packet is seen and none is seen twice.
//!
//! A packet of a bridge port passes the bridge too, `lo` shows each packet outgoing and incoming, and what a kernel
//! vxlan link decapsulates also passes the interface that carries it. Each of these is captured at one place only.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use engine_sys::interfaces::{self, Interface, LinkKind};

use crate::config::CaptureMode;
use crate::config::guess::guess;
use crate::diagnostic::{Code, Diagnostic, Exit};
use crate::process::{is_docker_desktop, is_in_container};
use crate::stdout::print;

/// What was chosen.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// In the kernel's order, each once.
    pub interfaces: Vec<Interface>,
    /// UDP ports whose VXLAN the kernel removes in front of one of these interfaces: not to be removed again.
    pub kernel_vxlan_ports: Vec<u16>,
    /// What the user should know about the choice.
    pub notices: Vec<Diagnostic>,
}

/// Chooses from `all`. `wanted` are names, `prefix*`, or addresses; empty means all that are up.
pub fn choose(
    wanted: &[String],
    mode: CaptureMode,
    all: &[Interface],
) -> Result<Choice, Diagnostic> {
    let mut choice = if wanted.is_empty() {
        choose_all(mode, all)
    } else {
        choose_named(wanted, all)?
    };
    if choice.interfaces.is_empty() {
        return Err(nothing_is_up(wanted, all));
    }
    choice.kernel_vxlan_ports = kernel_vxlan_ports(&choice.interfaces, all);
    if wanted.is_empty() && looks_like_a_container(&choice.interfaces, all) {
        choice.notices.push(
            Diagnostic::new(
                Code::W022,
                format!(
                    "only {} here: this looks like the container's own network",
                    up_text(all)
                ),
            )
            .fix("docker run --network host ..."),
        );
    }
    if is_docker_desktop() {
        choice.notices.push(Diagnostic::new(
            Code::W023,
            "this Linux is Docker Desktop's virtual machine: traffic of the Mac or Windows around it cannot be seen, that of \
             containers can",
        ));
    }
    Ok(choice)
}

fn choose_all(mode: CaptureMode, all: &[Interface]) -> Choice {
    let up: Vec<&Interface> = all.iter().filter(|interface| interface.up).collect();
    let passes_its_master = |interface: &Interface| {
        let master = interface
            .master
            .and_then(|index| up.iter().find(|candidate| candidate.index == index));
        master.is_some_and(|master| matches!(master.kind, LinkKind::Bridge | LinkKind::Bond))
    };
    // The packets of the mirror arrive on the carrier; a vxlan link would show their contents a second time.
    let decapsulated = |interface: &Interface| {
        mode == CaptureMode::Mirror && matches!(interface.kind, LinkKind::Vxlan { .. })
    };
    let interfaces = up
        .iter()
        .filter(|&&interface| !passes_its_master(interface) && !decapsulated(interface));
    Choice {
        interfaces: interfaces.map(|&interface| interface.clone()).collect(),
        ..Choice::default()
    }
}

fn choose_named(wanted: &[String], all: &[Interface]) -> Result<Choice, Diagnostic> {
    let mut choice = Choice::default();
    for name in wanted {
        let found: Vec<&Interface> = all
            .iter()
            .filter(|interface| is_meant(name, interface))
            .collect();
        if found.is_empty() {
            return Err(no_such_interface(name, all));
        }
        for interface in found {
            if !interface.up {
                choice.notices.push(
                    Diagnostic::new(
                        Code::W021,
                        format!("{} is down; not captured", interface.name),
                    )
                    .fix(format!("ip link set {} up", interface.name)),
                );
            } else if !choice
                .interfaces
                .iter()
                .any(|chosen| chosen.index == interface.index)
            {
                choice.interfaces.push(interface.clone());
            }
        }
    }
    choice.interfaces.sort_by_key(|interface| interface.index);
    Ok(choice)
}

/// In a container `ip` shows `eth0@if12`; the part after `@` is the peer, not the name.
fn is_meant(wanted: &str, interface: &Interface) -> bool {
    let wanted = wanted.split('@').next().unwrap_or(wanted);
    if let Some(prefix) = wanted.strip_suffix('*') {
        return interface.name.starts_with(prefix);
    }
    interface.name == wanted
        || wanted
            .parse::<IpAddr>()
            .is_ok_and(|address| interface.addresses.contains(&address))
}

/// The ports of vxlan links whose contents are captured, on the link itself or on the bridge that it is a port of.
fn kernel_vxlan_ports(chosen: &[Interface], all: &[Interface]) -> Vec<u16> {
    let is_chosen = |index: u32| chosen.iter().any(|interface| interface.index == index);
    let mut ports: Vec<u16> = (all.iter().filter(|link| link.up))
        .filter(|link| is_chosen(link.index) || link.master.is_some_and(is_chosen))
        .filter_map(|link| match link.kind {
            LinkKind::Vxlan { port, .. } => Some(port),
            _ => None,
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// `lo` alone, or with one end of a veth pair.
fn looks_like_a_container(chosen: &[Interface], all: &[Interface]) -> bool {
    let others: Vec<_> = chosen
        .iter()
        .filter(|interface| !interface.loopback)
        .collect();
    let is_own_network = match others[..] {
        [] => true,
        [one] => one.kind == LinkKind::Veth,
        _ => false,
    };
    is_own_network && is_in_container() && all.iter().filter(|interface| interface.up).count() <= 2
}

fn no_such_interface(name: &str, all: &[Interface]) -> Diagnostic {
    let guess = guess(name, all.iter().map(|interface| interface.name.as_str()));
    let carrier = || {
        all.iter().find(|interface| {
            interface.up && !interface.loopback && !interface.addresses.is_empty()
        })
    };
    let best = guess.or_else(|| carrier().map(|interface| interface.name.as_str()));
    let hint = best
        .map(|name| format!(" Did you mean {name}?"))
        .unwrap_or_default();
    let fix = best.map_or("sniffer interfaces    lists them".to_owned(), |name| {
        format!("-i {name}, or NET_DEVICE={name}")
    });
    let up = match up_text(all) {
        none if none.is_empty() => "None is up here".to_owned(),
        names => format!("Up here: {names}"),
    };
    Diagnostic::new(Code::E020, format!("no interface {name:?}. {up}.{hint}")).fix(fix)
}

/// None of the interfaces that are `wanted` is up; without names, none at all is.
fn nothing_is_up(wanted: &[String], all: &[Interface]) -> Diagnostic {
    let down: Vec<&str> = all
        .iter()
        .filter(|interface| !interface.up)
        .filter(|interface| {
            wanted.is_empty() || wanted.iter().any(|name| is_meant(name, interface))
        })
        .map(|interface| interface.name.as_str())
        .collect();
    let fixes: Vec<String> = down
        .iter()
        .map(|name| format!("ip link set {name} up"))
        .collect();
    let names = down.join(", ");
    let verb = if down.len() == 1 { "is" } else { "are" };
    let problem = Diagnostic::new(Code::E020, format!("{names} {verb} down"));
    if wanted.is_empty() {
        return Diagnostic::new(Code::E020, "no interface is up")
            .cause(format!("down: {names}"))
            .fix(fixes.join("\n"));
    }
    let up = up_text(all);
    let problem = if up.is_empty() {
        problem
    } else {
        problem.cause(format!("up here: {up}"))
    };
    problem.fix(fixes.join("\n"))
}

/// `ens5 (10.0.3.4), lo, docker0`.
fn up_text(all: &[Interface]) -> String {
    let named: Vec<String> = (all.iter().filter(|interface| interface.up))
        .map(|interface| match interface.addresses.first() {
            Some(address) if !interface.loopback => format!("{} ({address})", interface.name),
            _ => interface.name.clone(),
        })
        .collect();
    named.join(", ")
}

/// `sniffer interfaces`.
pub fn command() -> Result<Exit, Diagnostic> {
    let before = packets();
    std::thread::sleep(RATE_PERIOD);
    print(&table(&list()?, |name| rate(name, &before, &packets())));
    Ok(Exit::Done)
}

/// Time in which packets are counted for a rate.
const RATE_PERIOD: Duration = Duration::from_millis(500);

/// The packets that each interface has received and sent, as `/proc/net/dev` has them (proc_net(5)).
fn packets() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    packets_of(&text)
}

fn packets_of(text: &str) -> BTreeMap<String, u64> {
    let rows = text.lines().filter_map(|line| {
        let (name, numbers) = line.rsplit_once(':')?;
        let mut numbers = numbers.split_whitespace().map(str::parse::<u64>);
        let received = numbers.nth(1)?.ok()?;
        let sent = numbers.nth(7)?.ok()?;
        Some((name.trim().to_owned(), received.saturating_add(sent)))
    });
    rows.collect()
}

/// Packets a second between two readings.
fn rate(name: &str, before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Option<u64> {
    let more = after.get(name)?.saturating_sub(*before.get(name)?);
    let millis = u64::try_from(RATE_PERIOD.as_millis()).unwrap_or(u64::MAX);
    Some(more.saturating_mul(1000) / millis.max(1))
}

/// All interfaces of this network namespace.
pub fn list() -> Result<Vec<Interface>, Diagnostic> {
    interfaces::list().map_err(|error| {
        Diagnostic::new(Code::E090, format!("cannot list interfaces: {error}"))
            .cause("rtnetlink(7) refused")
    })
}

/// One line for each interface.
fn table(all: &[Interface], rate: impl Fn(&str) -> Option<u64>) -> String {
    let mut text = format!(
        "{:<16} {:<7} {:>6} {:>10}  {:<10} {}\n",
        "NAME", "STATE", "MTU", "PACKETS/S", "KIND", "ADDRESSES"
    );
    for interface in all {
        let state = match (interface.up, interface.carrier) {
            (true, true) => "up",
            (true, false) => "no-link",
            (false, _) => "down",
        };
        let kind = match &interface.kind {
            LinkKind::Plain if interface.loopback => "loopback".to_owned(),
            LinkKind::Plain => "plain".to_owned(),
            LinkKind::Bridge => "bridge".to_owned(),
            LinkKind::Bond => "bond".to_owned(),
            LinkKind::Veth => "veth".to_owned(),
            LinkKind::Vlan => "vlan".to_owned(),
            LinkKind::Vxlan { vni: Some(vni), .. } => format!("vxlan {vni}"),
            LinkKind::Vxlan { vni: None, .. } => "vxlan".to_owned(),
            LinkKind::Other(kind) => kind.clone(),
        };
        let addresses: Vec<String> = interface
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        text.push_str(&format!(
            "{:<16} {state:<7} {:>6} {:>10}  {kind:<10} {}\n",
            interface.name,
            interface.mtu,
            rate(&interface.name).map_or_else(|| "-".to_owned(), |rate| rate.to_string()),
            addresses.join(" ")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_both_directions_are_counted() {
        const TEXT: &str = "Inter-|   Receive                            |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
            lo:  900      10    0    0    0     0          0         0      900      10    0    0    0     0       0          0\n\
            eth0.7:1 20 0 0 0 0 0 0 1 5 0 0 0 0 0 0\n";
        let before = packets_of(TEXT);
        assert_eq!(
            before,
            BTreeMap::from([("lo".into(), 20), ("eth0.7".into(), 25)])
        );
        let after = packets_of(&TEXT.replace("10 ", "60 "));
        assert_eq!(rate("lo", &before, &after), Some(200));
        assert_eq!(rate("eth0.7", &before, &after), Some(0));
        assert_eq!(rate("tap", &before, &after), None);
    }

    fn link(index: u32, name: &str, kind: LinkKind) -> Interface {
        Interface {
            name: name.into(),
            index,
            up: true,
            carrier: true,
            loopback: name == "lo",
            ethernet: true,
            mtu: 1500,
            addresses: vec![],
            kind,
            master: None,
        }
    }

    /// lo, a card with an address, docker's bridge with a container's port, a vxlan link, and a card that is down.
    fn host() -> Vec<Interface> {
        let mut card = link(2, "ens5", LinkKind::Plain);
        card.addresses.push("10.0.3.4".parse().unwrap());
        let mut port = link(4, "veth12", LinkKind::Veth);
        port.master = Some(3);
        let mut down = link(6, "ens6", LinkKind::Plain);
        down.up = false;
        vec![
            link(1, "lo", LinkKind::Plain),
            card,
            link(3, "docker0", LinkKind::Bridge),
            port,
            link(
                5,
                "vx0",
                LinkKind::Vxlan {
                    vni: Some(7),
                    port: 4789,
                },
            ),
            down,
        ]
    }

    #[track_caller]
    fn check(wanted: &[&str], mode: CaptureMode, names: &[&str], vxlan_ports: &[u16]) {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        let choice = choose(&wanted, mode, &host()).unwrap();
        let chosen: Vec<&str> = choice
            .interfaces
            .iter()
            .map(|interface| interface.name.as_str())
            .collect();
        assert_eq!(
            (chosen.as_slice(), choice.kernel_vxlan_ports.as_slice()),
            (names, vxlan_ports)
        );
    }

    #[test]
    fn all_that_are_up_each_packet_once() {
        check(
            &[],
            CaptureMode::Interfaces,
            &["lo", "ens5", "docker0", "vx0"],
            &[4789],
        );
        check(&[], CaptureMode::Mirror, &["lo", "ens5", "docker0"], &[]);
    }

    #[test]
    fn by_name_prefix_and_address() {
        check(&["ens5"], CaptureMode::Interfaces, &["ens5"], &[]);
        check(&["ens5@if9"], CaptureMode::Interfaces, &["ens5"], &[]);
        check(&["vx0"], CaptureMode::Mirror, &["vx0"], &[4789]);
        check(
            &["veth*", "lo", "lo"],
            CaptureMode::Interfaces,
            &["lo", "veth12"],
            &[],
        );
        check(&["10.0.3.4"], CaptureMode::Interfaces, &["ens5"], &[]);
        check(&["ens*"], CaptureMode::Interfaces, &["ens5"], &[]);
    }

    #[test]
    fn a_vxlan_link_under_a_captured_bridge_counts_as_captured() {
        let mut links = host();
        links[4].master = Some(3);
        let choice = choose(&["docker0".to_owned()], CaptureMode::Interfaces, &links).unwrap();
        assert_eq!(choice.kernel_vxlan_ports, [4789]);
    }

    #[test]
    fn a_missing_interface_is_an_error_with_a_guess_and_one_that_is_down_a_warning() {
        let problem = choose(&["ens55".to_owned()], CaptureMode::Interfaces, &host()).unwrap_err();
        assert_eq!(problem.code, Code::E020);
        assert_eq!(
            problem.what,
            "no interface \"ens55\". Up here: lo, ens5 (10.0.3.4), docker0, veth12, vx0. Did you mean ens5?"
        );
        let mut links = host();
        links.iter_mut().for_each(|link| link.up = false);
        let problem = choose(&["eth*".to_owned()], CaptureMode::Interfaces, &links).unwrap_err();
        assert_eq!(problem.what, "no interface \"eth*\". None is up here.");
        let choice = choose(&["ens*".to_owned()], CaptureMode::Interfaces, &host()).unwrap();
        assert_eq!(
            choice
                .notices
                .iter()
                .map(|notice| notice.code)
                .collect::<Vec<_>>(),
            [Code::W021]
        );
        let problem = choose(&["ens6".to_owned()], CaptureMode::Interfaces, &host()).unwrap_err();
        assert_eq!(problem.what, "ens6 is down");
        assert_eq!(problem.fix.as_deref(), Some("ip link set ens6 up"));
    }
}
