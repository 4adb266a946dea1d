//! What of the rows that a cluster shows is committed.
//!
//! A replica that loses ZooKeeper in the midst of an insert answers "unknown status" (319) and keeps the part, whose rows it shows
//! although they may not be committed; minutes later, or when it starts again, it moves such a part away
//! (`ReplicatedMergeTreeBlockOutputStream::commitPart`). So rows prove nothing if their part is older than the session of the replica
//! with ZooKeeper. They are inserted again: the same block is stored once, and whatever is there twice is listed once.

use std::time::Duration;

use super::binary::{Malformed, Reader};
use super::client::{Client, Error, Settings};
use super::schema::Names;
use super::sql::literal;

/// By how much a part has to be newer than the sessions: the clocks of the servers and of ZooKeeper differ.
const CLOCKS_DIFFER_SECONDS: u32 = 10;

/// A condition on rows of calls that only those meet which are committed.
///
/// # Errors
/// The servers or ZooKeeper do not answer.
pub(super) async fn condition(
    client: &Client,
    names: &Names,
    settings: Settings<'_>,
    time: Duration,
) -> Result<String, Error> {
    if names.cluster.is_none() {
        return Ok("1".into());
    }
    let of_table = format!(
        "database = {} AND table = {}",
        literal(&names.database),
        literal(&names.local("calls"))
    );
    let ask = async |sql: String| client.read(sql, settings, time).await;
    let paths = ask(format!(
        "SELECT DISTINCT zookeeper_path FROM {} WHERE {of_table} FORMAT RowBinary",
        names.system("replicas")
    ));
    let mut newest = 0;
    for path in texts(&paths.await?)? {
        let replicas = format!("{path}/replicas");
        let all = ask(format!(
            "SELECT name FROM system.zookeeper WHERE path = {} FORMAT RowBinary",
            literal(&replicas)
        ));
        for replica in texts(&all.await?)? {
            let began = ask(format!(
                "SELECT toUnixTimestamp(ctime) FROM system.zookeeper WHERE path = {} AND name = 'is_active' FORMAT RowBinary",
                literal(&format!("{replicas}/{replica}"))
            ));
            let began = began.await?;
            let mut began = Reader(&began);
            while began.has_more() {
                newest = newest.max(began.u32().map_err(lost)?);
            }
        }
    }
    // Both are read from the replica that reads the rows. A session that has ended has not begun again yet, though its node may still
    // be there. Only committed parts are merged.
    Ok(format!(
        "_part IN (SELECT name FROM system.parts WHERE active AND {of_table}
             AND (level > 0 OR toUnixTimestamp(modification_time) > {}))
         AND 1 IN (SELECT toUInt8(is_readonly = 0 AND is_session_expired = 0) FROM system.replicas WHERE {of_table})",
        newest.saturating_add(CLOCKS_DIFFER_SECONDS)
    ))
}

fn texts(answer: &[u8]) -> Result<Vec<String>, Error> {
    let mut reader = Reader(answer);
    let mut texts = Vec::new();
    while reader.has_more() {
        texts.push(reader.text().map_err(lost)?);
    }
    Ok(texts)
}

fn lost(error: Malformed) -> Error {
    Error::Lost(error.to_string())
}
