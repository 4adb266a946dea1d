//! What a sniffer depends on and what fails: dice, the disk with its spools, the certificate of a server.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Row, value};
use flate2::Crc;
use tempfile::TempDir;
use tests::disk::Disk;
use tests::program::sniffer_ends;

/// Bytes of the disk: some bundles more than wait at a time.
const DISK: &str = "8m";

/// splitmix64.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Whether a die with so many sides shows a one.
    pub(super) fn one_in(&mut self, sides: u64) -> bool {
        self.below(sides) == 0
    }

    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// A small file system of memory for the spools.
pub(super) struct SpoolDisk {
    // Unmounted before its folder is removed.
    _mount: Disk,
    folder: TempDir,
}

impl SpoolDisk {
    pub(super) fn mount() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mount = Disk::mount(folder.path(), DISK)?;
        Ok(Self {
            _mount: mount,
            folder,
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The spool of the sink of the capture URL, and that of a sink with a name.
    fn spools(&self) -> [PathBuf; 2] {
        [self.path().to_owned(), self.path().join("sink-near")]
    }

    /// Takes all space, or gives it back.
    pub(super) fn set_full(&self, is_full: bool) {
        let filler = self.path().join("filler");
        let _ = fs::remove_file(&filler);
        if is_full && let Ok(mut file) = fs::File::create(filler) {
            while file.write_all(&[0; 4096]).is_ok() {}
        }
    }

    /// The numbers of the calls that wait in each spool while no process uses it.
    pub(super) fn waiting(&self) -> Result<[HashSet<u64>; 2]> {
        let [default, near] = self.spools();
        Ok([waiting(&default)?, waiting(&near)?])
    }

    /// Files of segments of one spool.
    fn segments(&self, spool: usize) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.spools()[spool]);
        let entries = entries.into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("00"))
        });
        let mut paths: Vec<PathBuf> = paths.collect();
        paths.sort();
        paths
    }

    /// Changes the times of all bundles by so many hours: as if the clock had been set the other way before the next process.
    pub(super) fn shift_times(&self, hours: i64) -> Result<()> {
        for path in [0, 1].iter().flat_map(|spool| self.segments(*spool)) {
            if path.extension().is_none_or(|kind| kind != "index") {
                continue;
            }
            let mut octets = fs::read(&path)?;
            shift(&mut octets, 0, 56, hours);
            let mut at = 64;
            while let Some(record) = octets.get(at..at + 80)
                && record.starts_with(b"SNBUNDLE")
            {
                let entries = u32::from_le_bytes(record[52..56].try_into()?) as usize;
                shift(&mut octets, at, 72, hours);
                at += 80 + 48 * entries;
            }
            // Over what is there, which has its place on a full disk.
            OpenOptions::new()
                .write(true)
                .open(&path)?
                .write_all_at(&octets, 0)?;
        }
        Ok(())
    }

    /// Flips a bit of a file, or cuts its end. Returns the number of the spool; none where there is no file.
    pub(super) fn damage(&self, mut dice: Dice) -> Result<Option<(usize, String)>> {
        let spool = dice.below(2) as usize;
        let mut files = self.segments(spool);
        files.retain(|path| path.metadata().is_ok_and(|file| file.len() > 0));
        if files.is_empty() {
            return Ok(None);
        }
        let path = &files[dice.below(files.len() as u64) as usize];
        let length = fs::metadata(path)?.len();
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let at = dice.below(length);
        let what = format!("{} at {at} of {length}", path.display());
        if dice.one_in(2) {
            file.set_len(at)?;
            return Ok(Some((spool, format!("cut {what}"))));
        }
        let mut octet = [0];
        file.read_exact_at(&mut octet, at)?;
        octet[0] ^= 1 << dice.below(8);
        file.write_all_at(&octet, at)?;
        Ok(Some((spool, format!("flipped {what}"))))
    }
}

fn waiting(spool: &Path) -> Result<HashSet<u64>> {
    let folder = spool.display().to_string();
    let exported = sniffer_ends(&["spool", "export", "--spool", &folder], &[])?;
    // 8: something in it is damaged.
    ensure!([0, 8].contains(&exported.code()?), "{exported:?}");
    exported.stdout.lines().map(number).collect()
}

/// The number of a call, from its line.
fn number(line: &str) -> Result<u64> {
    let row: Row = serde_json::from_str(line)?;
    let number = value(&row, "request_header:x-call-number");
    Ok(number.with_context(|| line.to_owned())?.parse()?)
}

/// Changes the time of a header or a record, whose checksum is behind so many octets; nothing where that does not fit.
fn shift(octets: &mut [u8], at: usize, length: usize, hours: i64) {
    let checksum = |octets: &[u8]| {
        let mut crc = Crc::new();
        crc.update(octets);
        crc.sum().to_le_bytes()
    };
    let Some(part) = octets.get_mut(at..at + length + 4) else {
        return;
    };
    if part[length..] != checksum(&part[..length]) {
        return;
    }
    let millis = u64::from_le_bytes(*part[24..].first_chunk().expect("eight octets"));
    let shifted = millis.saturating_add_signed(hours * 3_600_000);
    part[24..32].copy_from_slice(&shifted.to_le_bytes());
    let sum = checksum(&part[..length]);
    part[length..].copy_from_slice(&sum);
}

/// The certificate of a server on this machine, which is valid or has expired.
pub(super) struct Certificate {
    folder: TempDir,
    valid: String,
    expired: String,
}

impl Certificate {
    pub(super) fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut authority = rcgen::CertificateParams::default();
        let mut subject = rcgen::DistinguishedName::new();
        subject.push(rcgen::DnType::CommonName, "authority");
        authority.distinguished_name = subject;
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate()?;
        fs::write(
            folder.path().join("ca.pem"),
            authority.self_signed(&key)?.pem(),
        )?;
        let issuer = rcgen::Issuer::new(authority, key);
        let key = rcgen::KeyPair::generate()?;
        let issued = |years: [i32; 2]| -> Result<String> {
            let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()])?;
            let [from, to] = years.map(|year| rcgen::date_time_ymd(year, 1, 1));
            (params.not_before, params.not_after) = (from, to);
            Ok(params.signed_by(&key, &issuer)?.pem())
        };
        let made = Self {
            valid: issued([2001, 2100])?,
            expired: issued([2001, 2002])?,
            folder,
        };
        fs::write(made.folder.path().join("key.pem"), key.serialize_pem())?;
        made.set_valid(true)?;
        Ok(made)
    }

    pub(super) fn authority(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    /// Replaces it in one step, as a program that renews certificates does.
    pub(super) fn set_valid(&self, is_valid: bool) -> Result<()> {
        let text = if is_valid { &self.valid } else { &self.expired };
        let [new, used] = ["new.pem", "cert.pem"].map(|name| self.folder.path().join(name));
        fs::write(&new, text)?;
        Ok(fs::rename(new, used)?)
    }

    /// A server of nginx that encrypts `port` and passes requests on to `to`. The variable makes it read the certificate for each
    /// connection, so that it takes a new one without a reload, which would reset the calls that it answers.
    pub(super) fn server(&self, port: u16, to: u16) -> String {
        let folder = self.folder.path().display();
        format!(
            "map $ssl_server_name $certificate {{ default {folder}/cert.pem; }} \
             server {{ listen {port} ssl; ssl_certificate $certificate; ssl_certificate_key {folder}/key.pem; \
             ssl_session_cache off; ssl_session_tickets off; keepalive_requests 20; client_max_body_size 64m; \
             location / {{ proxy_pass http://127.0.0.1:{to}; }} }}"
        )
    }
}
