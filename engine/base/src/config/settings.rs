//! The table of settings. A row is all that there is to a setting: its name in the environment, its flag, its kind, its
//! default, its help, and the commands that take it.
//!
//! The [flags](super::flags) of every command, what is read from the [environment](super::environment), the tables in
//! README.md and docs/settings.md and the fields of [`Settings`] come from the rows. To add a setting, add a row here and
//! use the field of [`Settings`] that has its name; a setting of the pipeline has in its row, as `sets`, the place in
//! [`pipeline::Config`] where it goes. The first paragraph of a row's documentation is its help in one
//! sentence, the rest is shown by `sniffer help NAME`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use engine_core::limits::{BODY_BYTES_MAX, BODY_TAIL_BYTES_MAX, BUNDLE_BYTES, MEMORY_BYTES_MIN};
use engine_core::{decap, pipeline};
use engine_sys::cpu;
use engine_sys::packet::RINGS_MAX;
use store::limits::{CALLS_MAX, DATABASE_BYTES_MAX, DATABASE_BYTES_MIN};

use super::folders;
use super::kinds::{
    Address, Bytes, BytesOrDefault, CompressionChoice, CompressionLevel, DescriptorSet,
    Encapsulations, Filter, HeaderLines, Metrics, MetricsAddress, Mode, Names, Number, Optional,
    Path, Ports, ProtobufForm, RulesText, Sources, Switch, Text, Time, UdpPorts, Url, Urls, Vnis,
    Worded,
};
use super::machine_name::MachineName;
use super::memory;
use super::mode::CaptureMode;
use super::page_token::{PageToken, TokenText};
use super::setting::Group::{Calls, Delivery, Operation, Packets, Store};
use super::setting::{
    ALL_IN_ONE, CAPTURING, Commands, DELIVERING, DEMO, Described, EVERY, EXPORT, IMPORT, Kind,
    READING, RULES_TEST, Row, SPOOL, STORE, STORING, Setting,
};
use super::sink_list::{OfSink, SinkList};
use super::spool::{SpoolFolder, Spooling};
use super::store_backend::{BackendUrl, PasswordText};
use super::values::Values;
use crate::diagnostic::Diagnostic;
use crate::limits::{KEPT_PACKETS_BYTES_MIN, RING_BYTES_MIN, SPOOL_BYTES_MIN, UPLOAD_BUNDLES_MAX};

/// Rules when none are given.
pub const RULES: &str = "include default";

/// Rules of the embedded store when none are given: its calls never leave the machine.
pub const RULES_OF_EMBEDDED_STORE: &str = "include debug";

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ty = $setting:expr;)*) => {
        /// The checked value of every setting: what was given, or the default.
        #[derive(Clone, Debug)]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $name: <$kind as Kind>::Checked,)*
        }

        impl Settings {
            /// Checks the settings that one of `commands` takes. The others have their defaults, whatever was given.
            pub fn check(values: &Values, commands: Commands) -> Result<Self, Diagnostic> {
                Ok(Self {
                    $($name: row::$name().check(given(values, row::$name(), commands))?,)*
                })
            }

            /// Puts each setting of the pipeline where its row has it.
            pub fn configure(&self, config: &mut pipeline::Config) {
                $(row::$name().configure(config, &self.$name);)*
            }
        }

        /// The row of each setting, under the name of its field in [`Settings`].
        pub mod row {
            use super::*;

            $(
                $(#[doc = $doc])+
                pub const fn $name() -> &'static Setting<$kind> {
                    /// The kind is known in the row, so that its closures need no types.
                    type Setting = super::super::setting::Setting<$kind>;
                    static SETTING: Setting = $setting.doc(concat!($($doc, "\n"),+));
                    &SETTING
                }
            )*
        }

        /// All settings, in the order in which they are shown.
        pub static ALL: &[&dyn Described] = &[$(row::$name()),*];
    };
}

settings! {
    /// Interfaces to capture on: names, beginnings of names such as `ens*`, or addresses.
    ///
    /// By default these are all that are up, without the members of a bridge or bond, whose packets are seen on the
    /// bridge or bond itself. The flag may be given several times; commas separate several names.
    interfaces: Names = Setting::new("NET_DEVICE", Vec::new)
        .aliases(&["VPC_MIRROR_DEVICE"])
        .flag("interface", "NAMES").short('i')
        .default_words("all that are up")
        .of(Packets, CAPTURING);

    /// TCP ports to read, such as 80,8000-8100.
    ///
    /// By default (`all`) HTTP is recognised on any port.
    ports: Ports = Setting::new("APP_PORTS", || Worded::unbounded("any port"))
        .aliases(&["APP_PORT"])
        .flag("ports", "PORTS").short('p')
        .of(Packets, READING)
        .sets(|config, ports| config.http.ports = ports.set.clone());

    /// Which packets are read: auto, af_packet, vxlan or mirror.
    ///
    /// `auto` and `af_packet` read everything on the interfaces, in tunnels and outside. `vxlan` and `mirror` read
    /// only what arrives in VXLAN, for a machine that is the target of a traffic mirror. `libpcap` and `raw_socket`,
    /// names of network-sniffer 1.x, mean `auto`. `k8s` is not supported.
    mode: Mode = Setting::new("SNIFFER_ENGINE", || CaptureMode::Interfaces)
        .flag("engine", "NAME")
        .of(Packets, CAPTURING)
        .sets(|config, mode| config.decap.only_tunnelled = *mode == CaptureMode::Mirror);

    /// UDP ports that carry VXLAN.
    vxlan_ports: UdpPorts =
        Setting::new("SNIFFER_MIRROR_VXLANPORT", || decap::Config::default().vxlan_ports)
        .flag("vxlan-port", "PORTS")
        .of(Packets, READING)
        .sets(|config, ports| config.decap.vxlan_ports.clone_from(ports));

    /// Virtual networks to read: 123,124 reads these, -7 all but this one.
    ///
    /// The numbers are those of the outermost VXLAN header, or of the outermost GENEVE header where there is no VXLAN.
    /// Packets outside of such tunnels are read whatever stands here, unless the mode is `vxlan`.
    vnis: Vnis = Setting::new("SNIFFER_MIRROR_VNIS", || Worded::unbounded("all VNIs"))
        .flag("vni", "VNIS")
        .of(Packets, READING)
        .sets(|config, vnis| config.decap.vnis = vnis.set.clone());

    /// Hosts and networks whose tunnels are read, such as 10.0.0.0/8,192.0.2.7; by default everybody's.
    ///
    /// The address is that of the outermost packet's source. Give the addresses of the mirrors where others can send
    /// datagrams to this machine: a tunnel can carry made-up connections. Packets of tunnels from others are skipped
    /// and counted.
    mirror_sources: Sources = Setting::new("SNIFFER_MIRROR_SOURCES", || Worded::unbounded("everybody"))
        .flag("mirror-source", "NETWORKS")
        .of(Packets, READING)
        .sets(|config, sources| config.decap.mirrors = sources.set.clone());

    /// Tunnels that are removed: auto (all), off, or some of vxlan,geneve,gre,erspan,ipip,other.
    ///
    /// `off` is right for a machine that many can reach and whose own traffic is in no tunnel.
    decap: Encapsulations = Setting::new("SNIFFER_DECAP", || Worded {
            set: decap::EncapSet::ALL,
            text: "auto".to_owned(),
        })
        .flag("decap", "LIST")
        .of(Packets, READING)
        .sets(|config, encaps| config.decap.encaps = encaps.set);

    /// Read a connection once that was captured in several networks.
    ///
    /// A mirror of both ends of a connection, two mirror sessions, or a mirror beside the plain interface bring each packet
    /// twice, under different VNIs or once without. Such connections have the same addresses, ports and sequence numbers on
    /// both sides. By default they are read in each network, and W072 names the networks.
    fold_copies: Switch = Setting::new("SNIFFER_FOLD_COPIES", || false)
        .flag("fold-copies", "")
        .of(Packets, READING)
        .sets(|config, is_on| config.flow.fold_copies = *is_on);

    /// Filter for packets in the language of tcpdump, such as "tcp port 80 and not net 10.0.0.0/8".
    ///
    /// The kernel applies it to the outermost headers of a packet. Its words are host, net, port, portrange, ip, ip6,
    /// tcp, udp, icmp, src, dst, and, or, not; hosts, networks and ports are numbers.
    bpf: Optional<Filter> = Setting::new("SNIFFER_BPF", || None)
        .flag("bpf", "FILTER")
        .of(Packets, CAPTURING);

    /// Capture packets that are not addressed to this machine.
    promiscuous: Switch = Setting::new("SNIFFER_PROMISC_ENABLED", || false)
        .flag("promisc", "")
        .of(Packets, CAPTURING);

    /// Bytes of the packet rings of one capture thread.
    ///
    /// All interfaces share one ring; up to four that are named one by one have a ring each, with equal parts. The default
    /// holds about 25 ms of a link with 10 Gbit/s.
    ring_bytes: BytesOrDefault<RING_BYTES_MIN> = Setting::new("SNIFFER_PCAP_BUFFER_SIZE", || 32 << 20)
        .flag("ring-size", "BYTES")
        .of(Packets, CAPTURING);

    /// Bytes of memory in which the last packets are kept, for files of them; needs --unmasked.
    ///
    /// The page, and `GET /api/v1/calls/ID/pcap`, then have the packets of a call as a capture file, and
    /// `GET /api/v1/packets?from=-30s` those of the last seconds. Rules do not apply to packets. So nothing is kept by default, and the
    /// page has to have a token and to be on a loopback address.
    keep_packets: Optional<Bytes<KEPT_PACKETS_BYTES_MIN>> =
        Setting::new("SNIFFER_KEEP_PACKETS", || None)
        .flag("keep-packets", "BYTES")
        .default_words("off")
        .of(Packets, CAPTURING);

    /// Allow that packets are kept as they are, with everything that rules hide in calls.
    ///
    /// It changes nothing without --keep-packets.
    unmasked: Switch = Setting::new("SNIFFER_UNMASKED", || false)
        .flag("unmasked", "")
        .of(Packets, CAPTURING);

    /// Capture threads.
    ///
    /// Both directions of a connection reach the same one. By default there is one for each core on which the program
    /// may run.
    shards: Number<1, RINGS_MAX> =
        Setting::new("SNIFFER_SHARDS", || cpu::allowed().len().clamp(1, RINGS_MAX))
        .flag("shards", "COUNT")
        .default_words("one a core")
        .of(Packets, CAPTURING);

    /// Logging rules: text (a literal `\n` is a line end), or file:///PATH.
    ///
    /// They decide what of a call may leave; docs/rules.md is their manual. A file is read again on SIGHUP and by
    /// `sniffer rules reload`.
    rules: Optional<RulesText> = Setting::new("USAGE_LOGGERS_RULES", || None)
        .flag("rules", "TEXT")
        .default_words(RULES)
        .embedded_default(RULES_OF_EMBEDDED_STORE)
        .of(Calls, READING | DEMO | RULES_TEST | SPOOL | IMPORT);

    /// Bytes of a decoded body that are kept, on each side of a call.
    ///
    /// A longer body is truncated and its call marked.
    body_bytes_max: Bytes<0> = Setting::new("USAGE_LOGGERS_BODY_LIMIT", || BODY_BYTES_MAX)
        .flag("body-limit", "BYTES")
        .of(Calls, READING)
        .sets(|config, bytes| config.message.body_bytes_max = *bytes);

    /// Bytes of the end of a body that are kept behind its limit, on each side of a call.
    ///
    /// The usage of a model's answer stands in the last event of a stream. What lies between is counted, and marked in the text
    /// and by `custom_field:response_body_left_out`. A body that a rule has to see, the messages of gRPC and those of WebSockets
    /// have no such end: what a rule looks for may begin in the part that is not there.
    body_tail: Bytes<0, BODY_TAIL_BYTES_MAX> = Setting::new("SNIFFER_BODY_TAIL", || 0)
        .flag("body-tail", "BYTES")
        .default_words("off")
        .of(Calls, READING)
        .sets(|config, bytes| config.message.body_tail_bytes = *bytes);

    /// Deliver half calls too: requests without response and responses without request.
    ///
    /// docs/annotations.md lists the reasons why one side of a call can be missing.
    half_calls: Switch = Setting::new("SNIFFER_HALF_CALLS", || false)
        .flag("half-calls", "")
        .of(Calls, READING)
        .sets(|config, is_on| config.message.half_calls = *is_on);

    /// Read the messages of WebSockets.
    ///
    /// When a WebSocket ends, its messages are a line of their own beside that of the handshake: a JSON list for each side.
    /// The rules for bodies hold for them. By default only the handshake is a call, and what follows is counted.
    websocket: Switch = Setting::new("SNIFFER_WEBSOCKET", || false)
        .flag("websocket", "")
        .of(Calls, READING)
        .sets(|config, is_on| config.message.websocket = *is_on);

    /// Seconds between the parts in which a long stream of messages is reported.
    ///
    /// Event streams, gRPC and WebSockets (`--websocket`) may go on for hours. By default each is one call, at its end. With
    /// this setting it is a line as often as this, if messages have come, and a last one: `custom_field:stream_part` has their
    /// number, `custom_field:stream_part_last` marks the last, and all have the same `exchange_id`.
    stream_parts: Optional<Number<1, 86_400>> = Setting::new("SNIFFER_STREAM_PARTS", || None)
        .flag("stream-parts", "SECONDS")
        .default_words("off")
        .of(Calls, READING)
        .sets(|config, seconds| {
            config.message.stream_parts = seconds.map(|seconds| Duration::from_secs(seconds as u64));
        });

    /// Read the uploads of other sniffers as calls.
    ///
    /// By default a POST that carries the marker of another sniffer's upload, and that is one, is skipped and counted,
    /// or two sniffers that see each other's uploads would feed each other for ever. With this setting they do. The
    /// uploads of this sniffer are skipped in any case.
    include_uploads: Switch = Setting::new("SNIFFER_INCLUDE_UPLOADS", || false)
        .flag("include-uploads", "")
        .of(Calls, READING)
        .sets(|config, is_on| config.message.uploads.include_others = *is_on);

    /// Name of this machine in calls, as their `host`: the appliance, where many deliver to one store.
    ///
    /// By default it is the host name, in a container that of the container. Give each of a fleet a name that stays: lists,
    /// filters (`appliance=="edge-7"`), statistics and ledgers are by this name.
    name: Optional<MachineName> = Setting::new("SNIFFER_NAME", || None)
        .flag("name", "NAME")
        .default_words("the host name")
        .of(Calls, READING);

    /// Add to each call where and how it was seen, as `custom_field:NAME`.
    ///
    /// docs/annotations.md lists the names.
    annotate: Switch = Setting::new("SNIFFER_ANNOTATE", || false)
        .flag("annotate", "")
        .embedded_default("on")
        .of(Calls, READING)
        .sets(|config, is_on| config.message.annotate = *is_on);

    /// Show annotations that are numbers or from a closed list although the rules hide what they come from.
    ///
    /// An annotation that is derived from other details, such as the status of a gRPC call, is shown only if the rules leave
    /// those as they were sent. With this setting only those that are text of the call are left out. docs/annotations.md has
    /// both.
    keep_facts: Switch = Setting::new("SNIFFER_KEEP_FACTS", || false)
        .flag("keep-facts", "")
        .of(Calls, READING)
        .sets(|config, is_on| config.message.keep_facts = *is_on);

    /// How messages of protobuf are shown: as JSON, or as the bytes that they are.
    ///
    /// `json` shows the messages of gRPC, gRPC-Web and Connect as JSON with field numbers for names, so that rules find text in
    /// them and paths lead to fields. `raw` shows their bytes as text. docs/grpc.md has both.
    protobuf: ProtobufForm = Setting::new("SNIFFER_PROTOBUF", || false)
        .flag("protobuf", "json|raw")
        .of(Calls, READING)
        .sets(|config, is_raw| config.message.protobuf_raw = *is_raw);

    /// Read messages of protobuf by the types in this file, so that they have names instead of numbers.
    ///
    /// A FileDescriptorSet, as `protoc --include_imports --descriptor_set_out=FILE` writes it. Methods that it does not have are
    /// read without it. Paths of rules then lead to names, not to numbers: docs/grpc.md.
    protobuf_descriptors: Optional<DescriptorSet> = Setting::new("SNIFFER_PROTOBUF_DESCRIPTORS", || None)
        .flag("protobuf-descriptors", "FILE")
        .of(Calls, READING)
        .sets(|config, set| {
            config.message.schemas = set.as_ref().map(|set| set.schemas.clone());
        });

    /// Add the client's address as `request_header:x-forwarded-for`.
    client_address: Switch = Setting::new("SNIFFER_CLIENT_ADDRESS", || false)
        .flag("client-address", "")
        .of(Calls, READING)
        .sets(|config, is_on| config.message.client_address = *is_on);

    /// Set this request header to the client's address.
    realip_header: Optional<Text> = Setting::new("SNIFFER_REALIP_HEADER", || None)
        .flag("realip-header", "NAME")
        .of(Calls, READING)
        .sets(|config, name| config.message.realip_header.clone_from(name));

    /// Add the fields of form bodies as `request_param`.
    form_params: Switch = Setting::new("SNIFFER_FORM_PARAMS", || false)
        .flag("form-params", "")
        .of(Calls, READING)
        .sets(|config, is_on| config.message.form_params = *is_on);

    /// Capture URL to which calls are posted: https://HOST/message, or unix:///PATH of a socket.
    ///
    /// Plain http needs the rule `allow_http_url`, except to the embedded store. A user and a password in it,
    /// https://USER:PASSWORD@HOST/message, are sent as basic authentication and never shown; other users of the machine can
    /// read a command line, so such a URL belongs in the environment. Over a Unix socket requests are for /message, or for
    /// what stands behind a colon: unix:///run/collector.sock:/other. Several URLs of one store, with blanks between them or
    /// by several flags, are tried in this order, and the first is used again once it takes calls.
    url: Optional<Urls> = Setting::new("USAGE_LOGGERS_URL", || None)
        .flag("url", "URL")
        .embedded_default("its own URL")
        .of(Delivery, DELIVERING | IMPORT);

    /// A further destination, NAME=URL: http(s)://HOST/PATH, file:///FOLDER?rotate=64M,1h, or stdout:.
    ///
    /// Each sink has its own bound, column of the ledger, metrics and rules; the one of USAGE_LOGGERS_URL has the name
    /// `default`. The flag may be given several times; in the environment blanks or line ends separate sinks. Several capture URLs
    /// of one name are those of one store, as of USAGE_LOGGERS_URL. docs/sinks.md describes the kinds and their parameters.
    sinks: SinkList = Setting::new("SNIFFER_SINKS", Vec::new)
        .flag("sink", "NAME=URL")
        .of(Delivery, DELIVERING);

    /// Rules of the sink NAME, as USAGE_LOGGERS_RULES are those of all others.
    ///
    /// In the variable the name of the sink stands in capitals, with `_` in place of hyphens: SNIFFER_SINK_LAKE_RULES. The
    /// flag is given once for each sink. Sinks with the same rules share lines, and at most four different rule sets are
    /// possible.
    sink_rules: OfSink = Setting::new("SNIFFER_SINK_NAME_RULES", || ())
        .flag("sink-rules", "NAME=RULES")
        .default_words("those of USAGE_LOGGERS_RULES")
        .of(Delivery, DELIVERING);

    /// Header of every POST to the sink NAME; SNIFFER_HEADERS is for USAGE_LOGGERS_URL alone.
    ///
    /// The name of the sink stands as in SNIFFER_SINK_NAME_RULES, and the text is as in SNIFFER_HEADERS.
    sink_headers: OfSink = Setting::new("SNIFFER_SINK_NAME_HEADERS", || ())
        .flag("sink-header", "NAME=LINE")
        .secret()
        .of(Delivery, DELIVERING);

    /// File with certificates (PEM) that are trusted at the sink NAME, instead of those of SNIFFER_CA.
    ///
    /// The name of the sink stands as in SNIFFER_SINK_NAME_RULES.
    sink_ca: OfSink = Setting::new("SNIFFER_SINK_NAME_CA", || ())
        .flag("sink-ca", "NAME=FILE")
        .default_words("that of SNIFFER_CA")
        .of(Delivery, DELIVERING);

    /// File with the certificate (PEM) by which the sniffer identifies itself at the sink NAME.
    ///
    /// SNIFFER_TLS_CERT is for USAGE_LOGGERS_URL alone. The file is as that one's, and is read again at the same times.
    sink_tls_cert: OfSink = Setting::new("SNIFFER_SINK_NAME_TLS_CERT", || ())
        .flag("sink-tls-cert", "NAME=FILE")
        .of(Delivery, DELIVERING);

    /// File with the key (PEM, not encrypted) of --sink-tls-cert.
    sink_tls_key: OfSink = Setting::new("SNIFFER_SINK_NAME_TLS_KEY", || ())
        .flag("sink-tls-key", "NAME=FILE")
        .default_words("the file of --sink-tls-cert")
        .of(Delivery, DELIVERING);

    /// Name for which the certificate of the sink NAME must be, instead of its URL's host.
    sink_tls_server_name: OfSink = Setting::new("SNIFFER_SINK_NAME_TLS_SERVER_NAME", || ())
        .flag("sink-tls-server-name", "NAME=HOST")
        .of(Delivery, DELIVERING);

    /// Header of every POST: 'Authorization: Bearer TOKEN', or file:///PATH of a file with headers.
    ///
    /// The flag may be given several times; in the environment a line end or the characters `\n` separate headers, and a
    /// file has one a line. Other users of the machine can read a command line, so a secret belongs in a file or in the
    /// environment. It is never shown. Those that the sniffer sets itself, such as `Content-Type`, are refused.
    headers: Optional<HeaderLines> = Setting::new("SNIFFER_HEADERS", || None)
        .aliases(&["SNIFFER_HEADER"])
        .flag("header", "LINE")
        .secret()
        .of(Delivery, DELIVERING | IMPORT);

    /// File with certificates (PEM) that are trusted at the capture URL, instead of those of the system.
    ///
    /// It has the certificate of a private authority, or a self-signed one of the server itself, as `openssl req -x509`
    /// makes it. Name and dates are checked in either case. Without it the system's authorities are trusted.
    ca: Optional<Path> = Setting::new("SNIFFER_CA", || None)
        .flag("ca", "FILE")
        .of(Delivery, DELIVERING | IMPORT);

    /// File with the certificate (PEM) by which the sniffer identifies itself at the capture URL.
    ///
    /// It may have the certificates of the authorities behind its own, and the key. It is read again on SIGHUP and by
    /// `sniffer rules reload`, as are `--tls-key` and `--ca`; what cannot be used then changes nothing.
    tls_cert: Optional<Path> = Setting::new("SNIFFER_TLS_CERT", || None)
        .flag("tls-cert", "FILE")
        .of(Delivery, DELIVERING | IMPORT);

    /// File with the key (PEM, not encrypted) of --tls-cert.
    tls_key: Optional<Path> = Setting::new("SNIFFER_TLS_KEY", || None)
        .flag("tls-key", "FILE")
        .default_words("the file of --tls-cert")
        .of(Delivery, DELIVERING | IMPORT);

    /// Name for which the certificate of the capture URL must be, instead of the URL's host.
    ///
    /// It is sent to the server as well (server name indication).
    tls_server_name: Optional<Text> = Setting::new("SNIFFER_TLS_SERVER_NAME", || None)
        .flag("tls-server-name", "NAME")
        .of(Delivery, DELIVERING | IMPORT);

    /// Forward proxy to the capture URL: http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, or off.
    ///
    /// By default it is that of HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, in lower or upper case, for capture URLs on other
    /// machines that NO_PROXY does not except. One that is given here is for every capture URL but Unix sockets. The
    /// password is never shown. All traffic of this machine with the proxy's port is left out of the capture.
    proxy: Optional<Url> = Setting::new("SNIFFER_PROXY", || None)
        .flag("proxy", "URL")
        .default_words("as in the environment")
        .of(Delivery, DELIVERING | IMPORT);

    /// Count calls and send nothing.
    no_send: Switch = Setting::new("USAGE_LOGGERS_DISABLE", || false)
        .flag("no-send", "")
        .of(Delivery, CAPTURING);

    /// Bytes of lines in one POST.
    bundle_bytes: Bytes<0> = Setting::new("USAGE_LOGGERS_BUNDLE_SIZE", || BUNDLE_BYTES)
        .flag("bundle-size", "BYTES")
        .of(Delivery, CAPTURING);

    /// POSTs kept in memory while the destination is away.
    bundles_kept_max: Number<1, 1_000_000> =
        Setting::new("USAGE_LOGGERS_BUNDLE_QUEUE_SIZE", || UPLOAD_BUNDLES_MAX)
        .flag("bundle-queue-size", "COUNT")
        .of(Delivery, CAPTURING);

    /// Give up bundles that the destination refuses with 401, 403, 404, 405 or 407.
    ///
    /// Such answers stay the same until somebody corrects a token, a path or the destination. By default the bundles are kept,
    /// and tried again after growing pauses of up to a minute.
    drop_refused: Switch = Setting::new("SNIFFER_DROP_REFUSED", || false)
        .flag("drop-refused", "")
        .of(Delivery, DELIVERING);

    /// Post the ledger of calls once a minute, and at the end, to /ledger beside the capture URL.
    ///
    /// It has the name of this machine (SNIFFER_NAME) and numbers: how many calls were seen, sent, stopped, sampled out, dropped and
    /// for which reason. `sniffer store` shows those of all its sniffers, and their sum. A collector that answers 404 or 405
    /// gets none. The store of an all-in-one has the ledger of its own capture without this setting.
    post_ledger: Optional<Switch> = Setting::new("SNIFFER_POST_LEDGER", || None)
        .flag("post-ledger", "")
        .default_words("off")
        .embedded_default("to its own store")
        .of(Delivery, CAPTURING);

    /// Exit with 7 when the destination is down at the end.
    ///
    /// Without it the exit code is 0 where everything was delivered or is in the spool, and 8 where calls were dropped.
    require_output: Switch = Setting::new("SNIFFER_REQUIRE_OUTPUT", || false)
        .flag("require-output", "")
        .of(Delivery, CAPTURING);

    /// Folder in which bundles are kept on disk until they are delivered, auto, or off.
    ///
    /// Each bundle is written there before it is posted, so that neither a collector that is away nor the end of this process
    /// costs calls. `auto`, which the images set and which is the default of an all-in-one, is `spool` in /var/lib/sniffer if that can
    /// be written and, in a container, is a volume. docs/spool.md describes the folder, and `sniffer spool` what can be done with it.
    spool: SpoolFolder = Setting::new("SNIFFER_SPOOL", || Spooling::Off)
        .flag("spool", "DIR")
        .of(Delivery, DELIVERING);

    /// Bytes of the spool; past them the oldest bundles are given up and counted.
    spool_bytes: Bytes<SPOOL_BYTES_MIN> = Setting::new("SNIFFER_SPOOL_BYTES", || 1 << 30)
        .flag("spool-bytes", "BYTES")
        .of(Delivery, DELIVERING);

    /// How long a bundle stays in the spool; after that it is given up and counted.
    ///
    /// A store remembers for a day longer which bundles it has, so that none is stored twice: one to which others deliver
    /// that keep bundles for longer than three days needs the same setting.
    spool_age: Time = Setting::new("SNIFFER_SPOOL_AGE", || Duration::from_hours(72))
        .flag("spool-age", "TIME")
        .of(Delivery, DELIVERING | STORE);

    /// Bytes that are read back from the spool in a second, once the destination takes them again.
    ///
    /// What is captured meanwhile is delivered first.
    spool_rate: Bytes<1024> = Setting::new("SNIFFER_SPOOL_RATE", || 16 << 20)
        .flag("spool-rate", "BYTES")
        .of(Delivery, DELIVERING);

    /// Compression of POSTs: auto, off, on, or 1 (fast) to 9 (small).
    ///
    /// The format is zlib. `auto` is off for a collector on this machine and on for all others, `on` is 1.
    compression: CompressionLevel = Setting::new("SNIFFER_COMPRESSION", || CompressionChoice::Auto)
        .flag("compression", "WHEN")
        .of(Delivery, CAPTURING);

    /// How long a stop may go on delivering.
    flush_timeout: Time = Setting::new("SNIFFER_FLUSH_TIMEOUT", || Duration::from_secs(5))
        .flag("flush-timeout", "TIME")
        .of(Delivery, DELIVERING);

    /// Bytes of memory for flows, open calls, bundles and rules, without the packet rings.
    ///
    /// By default it is a quarter of the memory of the machine or of the control group, if that is less. At the limit
    /// flows are evicted and calls are shed, both of which are counted.
    memory_bytes: Bytes<MEMORY_BYTES_MIN> = Setting::new("SNIFFER_MEMORY_LIMIT", memory::share)
        .flag("memory-limit", "BYTES")
        .default_words("a quarter of what there is, up to 512M")
        .of(Operation, READING);

    /// Address of /metrics, /livez and /readyz, or off.
    ///
    /// docs/metrics.md describes them.
    metrics: MetricsAddress = Setting::new("SNIFFER_METRICS", || Some(Metrics {
            address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 7702),
            is_named: false,
        }))
        .flag("metrics", "ADDRESS")
        .of(Operation, CAPTURING);

    /// Let /readyz fail when the destination has been down for a minute.
    ready_needs_output: Switch = Setting::new("SNIFFER_READY_NEEDS_OUTPUT", || false)
        .flag("ready-needs-output", "")
        .of(Operation, CAPTURING);

    /// Control socket of `on`, `off`, `status` and `rules reload`.
    ///
    /// For another user than root it is `sniffer/control.sock` in `XDG_RUNTIME_DIR`, or in a folder of the user in the
    /// folder for temporary files.
    control: Path = Setting::new("SNIFFER_CONTROL", folders::default_control)
        .flag("control", "PATH")
        .default_words("/run/sniffer/control.sock for root")
        .of(Operation, EVERY);

    /// Do not confine files, ports and system calls after the start.
    no_sandbox: Switch = Setting::new("SNIFFER_NO_SANDBOX", || false)
        .flag("no-sandbox", "")
        .of(Operation, EVERY);

    /// Folder of the database.
    ///
    /// For another user than root it is `sniffer` in `XDG_DATA_HOME` or in `~/.local/share`. `sniffer demo` has a
    /// temporary folder.
    data: Path = Setting::new("SNIFFER_DATA", folders::default_data)
        .flag("data", "DIR")
        .default_words("/var/lib/sniffer for root")
        .of(Store, STORING | EXPORT | IMPORT);

    /// Calls that the store keeps.
    ///
    /// Past it the oldest calls of the sender that has the most are deleted and counted.
    keep_calls: Number<1, 1_000_000_000> =
        Setting::new("SNIFFER_KEEP_CALLS", || CALLS_MAX as usize)
        .flag("keep-calls", "COUNT")
        .of(Store, STORING);

    /// Bytes of the database that the store keeps.
    ///
    /// The write-ahead log, 96 MiB at most, comes on top.
    keep_bytes: Bytes<{ DATABASE_BYTES_MIN as usize }> =
        Setting::new("SNIFFER_KEEP_BYTES", || DATABASE_BYTES_MAX as usize)
        .flag("keep-bytes", "BYTES")
        .of(Store, STORING);

    /// Days for which the store keeps a call.
    ///
    /// The other two bounds hold as well.
    keep_days: Optional<Number<1, 36_500>> = Setting::new("SNIFFER_KEEP_DAYS", || None)
        .flag("keep-days", "COUNT")
        .default_words("no bound")
        .of(Store, STORING);

    /// Address of the embedded store's capture URL.
    store: Address = Setting::new("SNIFFER_STORE", || {
            SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 7701)
        })
        .flag("store", "ADDRESS")
        .of(Store, STORING);

    /// Address of the page.
    ///
    /// `sniffer page` prints the link that opens it, since the page requires a token (SNIFFER_UI_TOKEN).
    ui: Address = Setting::new("SNIFFER_UI", || SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 7700))
        .flag("ui", "ADDRESS")
        .of(Store, STORING);

    /// Token that the page requires: a text, file:///PATH of a file with one, or off.
    ///
    /// By default one is made at the first start and kept in the data folder, in `page.token`, which only its owner can read.
    /// `sniffer page` prints the link that has it. Once opened, the browser keeps the token, and the plain address is
    /// enough. Programs send `Authorization: Bearer TOKEN`. The flag takes no text, since every user sees the command line.
    /// `off` lets everybody who reaches the page read all calls, as in `sniffer demo`.
    ui_token: TokenText = Setting::new("SNIFFER_UI_TOKEN", || PageToken::Kept)
        .flag("ui-token", "TOKEN")
        .default_words("made once and kept")
        .secret()
        .of(Store, STORING);

    /// Database of the store: clickhouse://USER@HOST:8123/DATABASE, clickhouses:// for TLS.
    ///
    /// Further hosts follow behind commas, and behind a question mark cluster=NAME, ca=FILE and settings of the server. By default
    /// the calls are in a file in the data folder. Any number of stores may be in front of one ClickHouse. Its tables are made
    /// by `sniffer store migrate`. docs/scale-out.md has more.
    store_backend: Optional<BackendUrl> = Setting::new("SNIFFER_STORE_BACKEND", || None)
        .flag("store-backend", "URL")
        .default_words("a file in the data folder")
        .of(Store, STORING | IMPORT);

    /// Password for SNIFFER_STORE_BACKEND: a text, or file:///PATH of a file with it.
    ///
    /// The flag takes no text, since every user sees the command line.
    store_password: Optional<PasswordText> = Setting::new("SNIFFER_STORE_PASSWORD", || None)
        .flag("store-password", "FILE")
        .secret()
        .of(Store, STORING | IMPORT);

    /// Password of the reader that SNIFFER_STORE_BACKEND names: a text, or file:///PATH of a file with it.
    ///
    /// With `reader=USER` in the address `sniffer query --database` sends SQL of users to the ClickHouse as this user, who may only
    /// read: docs/scale-out.md. The flag takes no text, since every user sees the command line.
    store_reader_password: Optional<PasswordText> = Setting::new("SNIFFER_STORE_READER_PASSWORD", || None)
        .flag("store-reader-password", "FILE")
        .secret()
        .of(Store, STORING);

    /// Token that POSTs to the store require: a text, file:///PATH of a file with one, or off.
    ///
    /// Without it everybody who reaches the capture URL may post calls. With it a POST of calls or of a ledger has to carry
    /// `Authorization: Bearer TOKEN`, or is answered with 401; a sniffer sends it with SNIFFER_HEADERS. The capture of the
    /// same all-in-one needs none. The flag takes no text, since every user sees the command line. The store serves plain
    /// HTTP: beyond loopback put something that ends TLS in front of it (docs/fleet.md).
    store_token: TokenText = Setting::new("SNIFFER_STORE_TOKEN", || PageToken::Off)
        .flag("store-token", "TOKEN")
        .default_words("off")
        .secret()
        .of(Store, STORING);

    /// Capture at once, without waiting for `sniffer on`.
    autostart: Switch = Setting::new("SNIFFER_AUTOSTART", || false)
        .flag("on", "")
        .of(Store, ALL_IN_ONE);
}

/// Names of network-sniffer 1.x that are accepted and change nothing, with the reason.
pub const WITHOUT_EFFECT: &[(&str, &str)] = &[
    (
        "USAGE_LOGGERS_MESSAGE_QUEUE_SIZE",
        "lines go straight into bundles here, there is no queue of messages",
    ),
    (
        "USAGE_LOGGERS_DISABLED",
        "nothing ever read this name; the switch is USAGE_LOGGERS_DISABLE",
    ),
    (
        "SNIFFER_RF_MONITOR_ENABLED",
        "monitor mode is for wireless interfaces; set it with `iw` before the start",
    ),
    (
        "SNIFFER_NOFILTER",
        "ports are filtered after decapsulation, whatever the kernel's filter is",
    ),
    (
        "SNIFFER_DEBUG_ENABLED",
        "`sniffer status --json` has all counters",
    ),
    (
        "SNIFFER_DEBUG_VERBOSITY",
        "`sniffer status --json` has all counters",
    ),
    (
        "SNIFFER_DEBUG_EXPORT",
        "nothing is exported; record packets with tcpdump and read them with `sniffer read`",
    ),
    ("SNIFFER_DEBUG_DEAL_ID", "nothing is exported"),
    ("SNIFFER_DEBUG_HTTP_ENDPOINT", "nothing is exported"),
    ("SNIFFER_PORT", "use APP_PORTS"),
    ("SNIFFER_SAMPLE", "use the rule `sample N`"),
    (
        "K8S_INPUT",
        "pods are not looked up in this version; capturing on the node's interfaces",
    ),
];

fn given<'a>(values: &'a Values, row: &Row, commands: Commands) -> Option<&'a super::value::Value> {
    let is_taken = row.commands & (commands | EVERY) != 0;
    values.given(row).filter(|_| is_taken)
}
