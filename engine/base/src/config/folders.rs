//! Folders of a user: of the control socket and of the store's data (XDG Base Directory Specification; `/run` and
//! `/var/lib` for root).

use std::path::PathBuf;

/// The control socket of a user's programs.
pub(super) fn default_control() -> PathBuf {
    run_folder().join("control.sock")
}

/// The user's folder for running programs. In the shared temporary folder its name has the user's number.
fn run_folder() -> PathBuf {
    match (
        user(),
        std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()),
    ) {
        (Some(0), _) => PathBuf::from("/run/sniffer"),
        (_, Some(folder)) => PathBuf::from(folder).join("sniffer"),
        (user, None) => std::env::temp_dir().join(format!("sniffer-{}", user.unwrap_or_default())),
    }
}

/// The effective user: `/proc/self` belongs to it.
pub fn user() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self")
        .ok()
        .map(|metadata| metadata.uid())
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    user() == Some(0)
}

/// The folder of the store's database.
pub(super) fn default_data() -> PathBuf {
    if is_root() {
        return PathBuf::from("/var/lib/sniffer");
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let folder = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(home);
    folder.unwrap_or_else(std::env::temp_dir).join("sniffer")
}
