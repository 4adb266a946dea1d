//! What a process still needs after its start.

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

/// Files that the C library reads to resolve names. The folders of libraries hold nothing that is secret.
const FOR_NAMES: [&str; 10] = [
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/etc/ld.so.cache",
    // The C library loads the modules of nsswitch.conf when it resolves the first name.
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
];

/// Files of the kernel that are read for a status, and when the settings are read again.
const OF_THE_MACHINE: [&str; 4] = [
    "/proc/self",
    "/proc/meminfo",
    "/proc/sys/kernel/hostname",
    "/sys/fs/cgroup",
];

/// Port of DNS, which uses TCP when an answer is too long for a datagram.
const DNS_PORT: u16 = 53;

/// Files that every process needs: the C library reads this one when it returns memory.
const OF_EVERY_ROLE: [&str; 1] = ["/proc/sys/vm/overcommit_memory"];

/// Files that a database needs: SQLite seeds its generator of random numbers from this one.
const OF_THE_DATABASE: [&str; 1] = ["/dev/urandom"];

/// Which process is confined: each has its own set of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `run`: rings, uploader, control socket.
    Capture,
    /// `delegate name`: looks up names.
    Resolver,
    /// `delegate socket`: connects to a Unix socket.
    Connector,
    /// `store`: two listeners, and a database in a file or behind a port.
    Store,
    /// `read`, `rules test`, `delegate rules` and `files`: files in, standard output out, no network at all.
    Reader,
}

/// What a process needs after its start; everything else is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which process.
    pub role: Role,
    /// Files that are read, and folders that are read with everything below them.
    pub read: Vec<PathBuf>,
    /// Folders in which files are created, written and removed.
    pub write: Vec<PathBuf>,
    /// Folders from which a file of this process is removed at the end.
    pub remove: Vec<PathBuf>,
    /// TCP ports to which connections are made, at any address.
    pub connect: Vec<u16>,
    /// Pairs of Unix sockets are made, of which one is passed to the supervisor over standard input: no right to reach what has
    /// a name.
    pub makes_socket_pairs: bool,
    /// Descriptors over which a delegate passes connections.
    pub connections_over: Vec<RawFd>,
    /// The supervisor passes connections over standard input.
    pub takes_connections: bool,
    /// An io_uring exists and may be used; a new one may not be made.
    pub uses_uring: bool,
}

impl Plan {
    /// The plan of `sniffer run` without its sinks. `control` is the socket that is removed at the end, if that takes no
    /// right on other files: if its folder has nothing but sockets. Elsewhere the name stays, and the next start replaces it.
    pub fn capture(control: &Path) -> Self {
        let nothing = Self::nothing(Role::Capture);
        let mut read = nothing.read.clone();
        read.extend(OF_THE_MACHINE.map(PathBuf::from));
        let folder = folder_of(control);
        Self {
            read,
            remove: has_only_sockets(&folder)
                .then_some(folder)
                .into_iter()
                .collect(),
            ..nothing
        }
    }

    /// Adds a folder in which files are made, written and removed.
    pub fn write_in(&mut self, folder: &Path) {
        self.write.push(folder.to_owned());
    }

    /// Adds connections to this TCP port, at any address.
    pub fn connect_to(&mut self, port: u16) {
        self.connect.push(port);
    }

    /// The plan of a delegate that looks up a name.
    pub fn resolver() -> Self {
        let mut plan = Self::nothing(Role::Resolver);
        plan.connect_to(DNS_PORT);
        plan.read.extend(FOR_NAMES.map(PathBuf::from));
        plan.read.extend(resolver_files());
        plan
    }

    /// The plan of a delegate that connects to a Unix socket: landlock knows no rule for that one, and no kernel lets a filter
    /// of system calls see its path. So this process does nothing else, and reads neither packets nor answers.
    pub fn connector() -> Self {
        Self::nothing(Role::Connector)
    }

    /// The plan of a delegate that reads the file of the rules, or those of certificates, also when an editor or a mount has
    /// replaced one: that takes its folder, and all that is below it, and that of the file behind a link. So this process
    /// reads nothing else, and neither packets nor answers.
    pub fn files(files: &[PathBuf]) -> Self {
        let mut read = Vec::new();
        for file in files {
            read.push(file.clone());
            read.push(folder_of(file));
            read.extend(file.canonicalize().map(|target| folder_of(&target)));
        }
        read.sort();
        read.dedup();
        Self::reader(&read, false)
    }

    /// The plan of `sniffer store`, with its files in `data`. Its listeners were bound before. A supervisor passes connections
    /// to it. It makes none itself, unless its database is behind a port.
    pub fn store(data: &Path, is_supervised: bool) -> Self {
        let nothing = Self::nothing(Role::Store);
        let mut read = nothing.read.clone();
        read.extend(OF_THE_DATABASE.map(PathBuf::from));
        Self {
            read,
            write: vec![data.to_owned()],
            takes_connections: is_supervised,
            ..nothing
        }
    }

    /// The plan of a command that reads capture files, and, if it follows them, those that appear beside them.
    pub fn reader(files: &[PathBuf], follow: bool) -> Self {
        let mut plan = Self::nothing(Role::Reader);
        plan.read.extend_from_slice(files);
        if follow {
            let folders = files.iter().filter(|path| path.is_file());
            plan.read.extend(folders.map(|file| folder_of(file)));
        }
        plan
    }

    fn nothing(role: Role) -> Self {
        Self {
            role,
            read: OF_EVERY_ROLE.map(PathBuf::from).into(),
            write: Vec::new(),
            remove: Vec::new(),
            connect: Vec::new(),
            makes_socket_pairs: false,
            connections_over: Vec::new(),
            takes_connections: false,
            uses_uring: false,
        }
    }
}

/// Whether a folder has nothing that anybody would miss: sockets alone.
fn has_only_sockets(folder: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    let is_socket = |entry: std::io::Result<std::fs::DirEntry>| {
        entry
            .and_then(|entry| entry.file_type())
            .is_ok_and(|kind| kind.is_socket())
    };
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.all(is_socket))
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// `/etc/resolv.conf`, and, where it is a link, the folder of its target, in which a resolver replaces the target. The
/// whole of `/etc` is not allowed: a process of root could read `shadow` there.
fn resolver_files() -> Vec<PathBuf> {
    let name = Path::new("/etc/resolv.conf");
    let mut files = vec![name.to_owned()];
    if let Ok(target) = name.canonicalize() {
        let folder = folder_of(&target);
        if folder != Path::new("/etc") {
            files.push(folder);
        }
    }
    files
}
