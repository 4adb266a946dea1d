//! docs/messages.md, and the test that it is what the catalogue of messages gives.
//! `UPDATE_DOCUMENTS=1 cargo test -p sniffer usage::messages` writes it anew.

use std::path::Path;

use crate::diagnostic::Code;

fn page() -> String {
    let mut text = "# Messages\n\n\
        Every message has a code. `sniffer help CODE` prints what stands here. E ends the command, with the exit code beside it; W goes\n\
        on, and `sniffer status` shows it as long as it holds. Written from engine/base/src/diagnostic/catalogue.rs.\n"
        .to_owned();
    for &code in Code::ALL {
        let exit = if code.stops() {
            format!(" (exit code {})", code.exit() as u8)
        } else {
            String::new()
        };
        text += &format!("\n## {code}: {}{exit}\n\n", code.title());
        // What is indented is a block that is copied as it is.
        let mut is_indented = false;
        for line in code.explanation().lines() {
            let indented = line.strip_prefix("  ");
            if !line.is_empty() && indented.is_some() != is_indented {
                is_indented = !is_indented;
                text += "```\n";
            }
            text += indented.unwrap_or(line);
            text.push('\n');
        }
        if is_indented {
            text += "```\n";
        }
    }
    text
}

#[test]
fn the_document_has_every_message() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/messages.md");
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "UPDATE_DOCUMENTS=1 cargo test -p sniffer usage::messages"
    );
}
