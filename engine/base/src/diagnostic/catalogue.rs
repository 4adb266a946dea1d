//! Every code, the exit code that it leads to, and what `sniffer help CODE` prints.

use std::fmt;

use super::Exit;

macro_rules! codes {
    ($($code:ident, $exit:ident, $title:literal, $text:literal;)*) => {
        /// What can go wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $(#[doc = $title] $code,)* }

        impl Code {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$code,)*];

            /// The code as it is written.
            pub fn name(self) -> &'static str {
                match self { $(Self::$code => stringify!($code),)* }
            }

            /// How the program ends if this stops it.
            pub fn exit(self) -> Exit {
                match self { $(Self::$code => Exit::$exit,)* }
            }

            /// In a few words.
            pub fn title(self) -> &'static str {
                match self { $(Self::$code => $title,)* }
            }

            /// What `sniffer help CODE` prints.
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$code => $text,)* }
            }
        }
    };
}

codes! {
    E001, Usage, "unknown option or setting",
"A command-line option, or an environment variable that begins with SNIFFER_, USAGE_LOGGERS_ or APP_, is unknown. A
misspelt setting that is silently ignored can let forbidden details out, so the program stops.

  sniffer run --help        lists the options with their variables
  --lenient                 turns unknown variables into a warning";
    E002, Usage, "a value that cannot be used",
"The value of a setting cannot be used. The message shows the setting as you wrote it (option or variable), the value
without quotes, and what is expected instead. `sniffer help NAME` explains a setting.

The items of a list are separated by commas: APP_PORTS=80,8000-8100. Sizes may end in K, M or G.";
    W003, Done, "quotes or \\n from an env file",
"`docker run --env-file` passes quotes and the two characters \\n to the program as they are. One matching pair of quotes
around a value is removed, and \\n (or \\r\\n) in USAGE_LOGGERS_RULES becomes a line end. The message shows what is used.

A rule that needs \\n inside an expression is written in a file (file:///etc/rules.txt) or as \\x0A.";
    W004, Done, "a setting without effect",
"The setting belongs to network-sniffer 1.x, or to a part that this version does not have, and changes nothing here. It is
accepted so that an existing environment keeps working.";
    E010, Permission, "CAP_NET_RAW is missing",
"A packet socket needs the capability CAP_NET_RAW. Docker gives it by default; `--cap-drop ALL` takes it away.

  docker       docker run --cap-add NET_RAW --network host ...
  kubernetes   securityContext: {capabilities: {add: [\"NET_RAW\"]}}
  systemd      AmbientCapabilities=CAP_NET_RAW
  bare         sudo setcap cap_net_raw+ep $(command -v sniffer)

Reading capture files (`sniffer read`) needs no privilege.";
    E011, Permission, "a file capability is ignored",
"The program file carries cap_net_raw, but the process was started with no-new-privileges, and then the kernel ignores
file capabilities (execve(2)).

  docker       drop --security-opt no-new-privileges, or run as root with --cap-drop ALL --cap-add NET_RAW
  kubernetes   allowPrivilegeEscalation: true, or runAsUser: 0 with only NET_RAW added

All capabilities are given up once the sockets are open.";
    E012, Permission, "refused although CAP_NET_RAW is there",
"The process has CAP_NET_RAW, yet the kernel refused socket(AF_PACKET): a seccomp profile, SELinux or AppArmor does that.

  grep Seccomp /proc/self/status        2 = a filter is on
  dmesg | grep -iE 'apparmor|avc'       what was denied
  docker run --security-opt seccomp=unconfined ...   to find out whether it is seccomp";
    E020, Source, "no such interface",
"The named interface does not exist in this network namespace. A name may end in * (a prefix), and an address of an
interface works too. In a container, --network host shows the interfaces of the host.";
    W021, Done, "an interface is down or went away",
"Capture goes on with the other interfaces, and with this one again as soon as it is up. `status` lists the interfaces that are
captured now.";
    W022, Done, "the container is not on the host's network",
"Only lo, or lo and one virtual interface, are here, which is what a container sees without `--network host`. Calls to other
containers and to the host's programs are then not visible.";
    W023, Done, "this Linux is the virtual machine of Docker Desktop",
"Docker Desktop runs containers in a virtual machine, whose network is not that of the Mac or of Windows around it: `--network
host` is that of the machine. Traffic between containers can be captured, and what their published ports get; traffic of programs
outside of Docker cannot. /proc/version names the kernel that Docker Desktop builds.";
    E030, Usage, "a rule cannot be read",
"A line of the rules is not a rule. The message shows the line, the column and the reason. Forms:

  include default | include strict | include standard | include debug, and include private in addition
  allow_http_url | skip_compression | skip_submission
  copy_session_field /NAME/
  /DETAILS/ remove | stop
  /DETAILS/ remove_if /VALUE/        also remove_unless, stop_if, stop_unless and their _found forms
  /DETAILS/ replace /FIND/, /REPLACEMENT/
  sample 10
  /request_body:$.card.number/ remove        inside bodies: paths, with remove and replace verbs

Expressions stand between two of the same separator: ~ ! % | /";
    E031, Usage, "two sample rules",
"Only one `sample` is allowed in a rule set, since the shares of two would silently multiply.";
    E032, Usage, "the rules file cannot be read",
"The rules begin with file:// and the rest is a path that cannot be read. Inside a container the path is the container's:
mount the file, for example -v $PWD/rules.txt:/etc/rules.txt:ro with USAGE_LOGGERS_RULES=file:///etc/rules.txt";
    W033, Done, "a mask has matched nothing",
"A rule that removes or replaces has not matched anything in many calls. Mostly a name in it is misspelt or has capitals:
rules see the names of headers, params and cookies in lower case. What such a rule does not mask is delivered as it is.

  sniffer rules check FILE       warns of rules that cannot match
  sniffer rules test CAPTURE     shows each call before and after the rules, with the matches of each rule";
    W034, Done, "the rules drop every call",
"All calls so far were dropped by a stop rule, or nothing was left of them, so nothing is sent. Note that the matches of
all stop_unless rules of a set are counted together: each rule has to match exactly one detail of a call.

  sniffer rules test CAPTURE     shows which rule dropped which call";
    W035, Done, "a rule that may not mean what it seems to",
"The rule works as the manual of the rules describes, which is probably not what was meant. The message shows how to write
it.";
    W036, Done, "the work of the rules was bounded",
"The rules may look at so many bytes for one call (docs/rules.md, under \"Work\"). A pattern whose answer was not known by
then counts as matching: a stop rule stopped the call, a remove rule removed the value, a value to be replaced was removed,
and a body with masks inside it left as a whole. Calls that are made to be slow do this, and patterns that need the square
of a value's length do it with ordinary values, too.

  sniffer rules check FILE       names such patterns, with the reason";
    W037, Done, "credentials pass the rules",
"Calls carry details that are credentials by their names, such as authorization, cookies, or api_key in the query, and the
rules let them leave as they are: everybody who can read the calls has them. docs/rules.md, under \"Credentials\", lists the
names, and what hides them:

  include private                as a further line of the rules
  sniffer rules check FILE       names the credentials that a rule set lets through";
    W038, Done, "rules for fields by number, and a schema",
"Messages of protobuf have the numbers of their fields for names, and with --protobuf-descriptors the names of the schema where
it has their types. A path of a rule that leads to a number, such as /request_body:$.5.1/, then matches nothing in such a
message, and what it hides in other messages is delivered: docs/grpc.md, under \"Protobuf with a schema\".

  write a further rule for the name of each such field; one for all messages needs both";
    E039, Usage, "no destination",
"Calls would go nowhere. Set USAGE_LOGGERS_URL (or --url) to a capture URL, for example https://host/message;
`sniffer all-in-one` has its own; `--no-send` counts calls without sending them.";
    E040, Usage, "the capture URL is not valid",
"The capture URL is written http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH, and its path usually ends in /message. A user
and a password stand before the host, https://USER:PASSWORD@HOST/PATH, with @ as %40, / as %2F and % as %25.";
    E041, Usage, "the rules forbid plain http",
"The capture URL begins with http:, and the rules do not allow that. The reference loggers then switch
themselves off and send nothing; the sniffer reports it instead. Captured calls would cross the network unencrypted.

  add a line      allow_http_url        to USAGE_LOGGERS_RULES (`include debug` has it), or
  use             https://...

The embedded store of `sniffer all-in-one` is exempt: its calls never leave the machine.";
    W042, Done, "the destination does not answer",
"The capture URL refuses connections, its name does not resolve, or it does not answer in time; or the proxy that leads there
(--proxy, HTTPS_PROXY) makes no connection. With several URLs the next one takes its place. Bundles are kept, within
the bound of USAGE_LOGGERS_BUNDLE_QUEUE_SIZE, and sent again after growing pauses; those that do not fit are counted as dropped.";
    W043, Done, "the destination requires a token",
"The capture URL answers 401, 403 or 407. Bundles are kept, in memory and in the spool, and tried again after pauses that grow to a
minute, until somebody corrects the credentials; --drop-refused gives them up at once.

  --header 'Authorization: Bearer TOKEN'         a token
  --header file:///etc/sniffer/headers           the same from a file, which other users cannot read
  USAGE_LOGGERS_URL=https://USER:PASSWORD@HOST/message
  sniffer check --url URL                        shows what the URL answers";
    W044, Done, "the destination refuses bundles",
"404 and 405 mostly mean that the path is wrong, which usually is /message, or the port: 7700 is the page of a store, 7701 its
capture URL. Bundles are kept and tried again after pauses that grow to a minute; --drop-refused gives them up at once. Other
statuses from 300 to 499 are final for the bundle: its calls are refused and counted. 200 is the answer of another kind of server, since a
capture URL answers 204; its bundles count as delivered. A redirect is not followed: give the URL that it names.
400 to http:// is what a port that expects https:// answers. `sniffer check --url URL` shows what the URL answers.";
    W045, Done, "the destination cannot take bundles now",
"The capture URL answers 408, 413, 425, 429 or 5xx. Bundles that can be sent again are kept, within the bound of
USAGE_LOGGERS_BUNDLE_QUEUE_SIZE. After a 413 a bundle is sent again in two parts, and so on, down to one line (W049). That costs
a POST for each part: make bundles smaller. USAGE_LOGGERS_BUNDLE_SIZE=128K";
    W046, Done, "a certificate is not accepted",
"The TLS handshake failed: the certificate is expired, not yet valid, issued for another name, or signed by an authority that
this machine does not trust; or the destination demands a client certificate, or does not accept that of --tls-cert; or the port
is not encrypted. Bundles are kept and sent again later. Files with certificates are read again on SIGHUP.

  --ca FILE        the certificate of a private authority, or a self-signed one of the server, as PEM; it is trusted
                   instead of the system's authorities (SSL_CERT_FILE replaces those, too)
  --tls-cert FILE  the certificate by which the sniffer identifies itself, with --tls-key FILE
  --tls-server-name NAME           the name that the certificate is for, where the URL has another one
  openssl s_client -connect HOST:PORT -showcerts </dev/null      shows the certificates";
    W047, Done, "the destination takes less than is captured",
"Calls are captured faster than the destination acknowledges them, so the queue is full and its oldest bundles are dropped.
USAGE_LOGGERS_BUNDLE_QUEUE_SIZE (--bundle-queue-size) keeps more, within the memory limit, which bridges a burst. Against a lasting
difference: a faster destination, fewer calls (-p, -i, the rule `sample N`), or shorter ones (--body-limit).";
    W048, Done, "calls were given up for memory",
"The bound of memory for open calls was reached, and complete calls were given up; they are counted as dropped (memory).
--memory-limit 1G or SNIFFER_MEMORY_LIMIT raises it; -p and -i narrow the capture.";
    W049, Done, "a call is too large for the destination",
"The capture URL answers 413 to a POST that has the line of one call alone. That call is counted as dropped (too_large); no other is
lost. A line is as long as its bodies: --body-limit 256K (USAGE_LOGGERS_BODY_LIMIT) makes lines shorter. Or let the
destination take more: client_max_body_size of nginx; the embedded store takes 16 MiB.";
    W050, Done, "io_uring is not available",
"Docker's default seccomp profile and kernel.io_uring_disabled=2 refuse io_uring. The uploader uses plain sockets instead,
which costs a little more CPU and loses nothing.";
    W051, Done, "the spool cannot be written",
"Bundles are kept in memory only, as without a spool, until a write succeeds; one is tried each second. The message has the
kernel's reason, mostly a full disk: `df -h` with the folder of --spool. The status counts the writes that failed.";
    W052, Done, "calls in the spool are held",
"They were captured under other rules than those in use now, so what the present rules hide may be in them. (Or a later version of this
program wrote them; the message has which.) They are neither
delivered nor removed, until the bounds of the spool (--spool-bytes, --spool-age) are reached or somebody decides:

  sniffer spool drain          delivers them
  sniffer spool discard        gives them up; they are counted as dropped (discarded)
  sniffer spool export         prints them as NDJSON";
    W053, Done, "a part of the spool is damaged",
"Bundles in the spool could not be read: a file was cut or changed, or the process was killed within a write. The bundles before and behind
them are delivered. The files of their spool segment are kept aside, with `damaged-` in front of their names; docs/spool.md
describes how their lines are read. Of streams without a record it is unknown whether they were delivered.";
    W054, Done, "the spool gave up calls",
"The bound of bytes (--spool-bytes) or of age (--spool-age) was reached while the destination took nothing, and the oldest bundles
were given up; they are counted as dropped (spool_full, spool_age).";
    E055, Usage, "the spool cannot be used",
"The folder of --spool (SNIFFER_SPOOL) cannot be written, others may write to it, or another process has it. The message has the
reason. A folder serves one process at a time. SNIFFER_SPOOL=off keeps what cannot be delivered in memory only.";
    W056, Done, "no spool",
"SNIFFER_SPOOL=auto, which the images set and which is the default of an all-in-one that delivers elsewhere, uses /var/lib/sniffer if
that can be written; in a container a volume has to be mounted there. Without it, what cannot be delivered is kept in memory, and lost when
the process ends. Mount a volume, make the folder, or set SNIFFER_SPOOL=off.";
    E057, Usage, "certificates were not read again",
"On SIGHUP and `sniffer rules reload` the files of --ca, --tls-cert and --tls-key are read again. One of them could not be read, has
no PEM, or the key is not that of the certificate. The certificates of before stay in use; correct the files and send
SIGHUP again. They must be readable for the user that the sniffer runs as, without capabilities.";
    E058, Usage, "the folder of a sink cannot be used",
"The folder of a sink file:///FOLDER cannot be written, others may write to it, or another process has it. The message has the reason.
A folder serves one sink of one process at a time.";
    W057, Done, "the folder of a sink cannot be written",
"A write failed, mostly because the disk is full. Bundles wait in memory, and a write is tried each second; what does not fit into
memory is dropped, counted as queue_full. Other sinks go on. Free some room, or lower keep= in the URL of the sink.";
    W058, Done, "standard output takes no lines",
"The reader of the pipe has ended, or a write failed. After the end of the reader the calls of this sink are dropped, counted as
closed, since a pipe does not open again. Other sinks go on. Restart the sniffer with a reader.";
    E060, Usage, "that cannot be done here",
"The option or command is known, but cannot be combined with another one that was given.";
    W060, Done, "no packets",
"Nothing has arrived on the captured interfaces, or nothing of TCP. Others that have packets are named; `sniffer interfaces` lists all. A switch or hypervisor may not
deliver packets for other machines, and --promisc is needed to capture those that do arrive.";
    W061, Done, "packets, but no HTTP on the wanted ports",
"There is traffic, but none of it is HTTP on the given ports. Leave APP_PORTS empty to read HTTP on any port.";
    W062, Done, "only encrypted connections",
"The connections are encrypted: TLS, or HTTP/3, which is QUIC on UDP. Their calls can be read only behind the terminator: capture
on the interface between it and the server (often lo), where they are not encrypted.";
    W063, Done, "HTTP/2 connections that began before the capture",
"HTTP/2 sends a header once and then refers to it by a number. Of a connection that began before the capture, what was sent
before is not known, and it is never guessed: a call whose method, path or status is such a number is a half call (reason
`hpack`). Calls become readable as the client sends new paths, and all of them once it reconnects: start the capture before
the client, or restart the client.";
    W064, Done, "only one direction",
"Requests are captured without their responses, or responses without their requests, so that all calls are half calls. The other
direction passes elsewhere: another port of a tap, another interface (asymmetric routing, a bond), or the mirror session takes
ingress or egress only. Capture where both pass, or give the mirror both directions. --half-calls delivers what there is.";
    W065, Done, "no VXLAN",
"Packets arrive, but none on the UDP ports of VXLAN. Check the security group (UDP 4789 from the sources), that the mirror
session is on, that its target is this machine, and SNIFFER_MIRROR_VXLANPORT.";
    W066, Done, "other networks than the wanted ones",
"Mirrored packets arrive, all from networks that SNIFFER_MIRROR_VNIS leaves out. Empty reads all, -7 all but 7.";
    W067, Done, "no TCP",
"There are packets, but none of them is TCP, so there is no HTTP/1 in them. The message counts what they are. HTTP/3 runs
over UDP and is encrypted. Packets inside of a tunnel that is not known count as what the tunnel is made of: VXLAN on another
UDP port needs --vxlan-port.";
    W068, Done, "GENEVE, and no call in it yet",
"Packets arrive in GENEVE tunnels, as a Gateway Load Balancer of AWS sends them, and are decapsulated. As long as no call was
seen, this says that the tunnels are not what is missing: look at the ports inside (`sniffer ports`), and at whether both
directions arrive. A sniffer takes copies only: it answers no health check of a load balancer and sends nothing back, so the
target group needs one that its metrics port answers (/healthz).";
    W069, Done, "packets arrive cut",
"A mirror or a snap length cut packets before they reached this machine. The calls are kept and marked, and what is missing is
counted to the byte. A mirror in VXLAN adds 50 bytes to each packet and cuts what does not fit into the target's MTU: set the MTU of
the sources to 8947 or less for a target with 9001, to 1450 for one with 1500. For capture files: `tcpdump -s 0`.";
    W070, Done, "a ring was full or filled up",
"Packets arrive faster than they are read. Before the kernel has to drop some, which makes their calls incomplete, bundles
are sent uncompressed, then bodies are truncated, then calls are shed; the status counts each. A larger ring
(--ring-size 256M) helps against bursts; otherwise narrow the capture (-p, -i) or give it more cores (--shards).";
    W071, Done, "packets were lost before this machine",
"Connections acknowledge bytes that never arrived here, while no ring was full: a mirror, tap or switch lost them on the way. Calls
with such gaps are marked or half. Check the drop counters of the switch and the bandwidth of the mirror's port, and mirror less.";
    W072, Done, "connections are captured twice",
"The same connections, with the same addresses, ports and sequence numbers on both sides, are captured in two networks: both
ends are mirrored, there are two mirror sessions, or the packets also pass an interface of this machine without their tunnel.
The message names both. Each of their calls is reported twice.

  --fold-copies               reads each connection once; a packet that one copy lacks is taken from the other
  --vni 7, --engine vxlan     leaves one of the two out, which costs less

Copies in the same network are always removed. After address translation a connection has other addresses, and a firewall
may choose other sequence numbers: such copies are not recognised.";
    W073, Done, "the steering does not work",
"With several shards the kernel must give both directions of a connection to the same one. A test at the start, or
connections seen later, showed that this kernel does not, so that calls become half calls. --shards 1 needs no steering.";
    W074, Done, "one shard does all the work",
"One capture thread is busy all of the time while the others are not: a flow belongs to one thread, so one connection, or few that
by chance share a thread, carry most bytes. Another number of shards (SNIFFER_SHARDS) distributes the flows anew; a single
connection stays with one. `sniffer top` shows each shard.";
    W075, Done, "the memory limit was reached",
"What the program holds of connections and calls that are not over has reached its part of --memory-limit. Bodies are then cut
(the line has the annotations of it), and the oldest open calls are given up half, so that memory stays bounded. A larger
--memory-limit holds more; -i, -p and a smaller USAGE_LOGGERS_BODY_LIMIT need less. Calls that were given up as a whole are
reported with W048.";
    W076, Done, "tunnels from a host that is not among the mirrors",
"Packets arrive in tunnels whose source is not in SNIFFER_MIRROR_SOURCES. They are skipped and counted, since anybody who can
send a datagram to this machine can put made-up connections into a tunnel. If a mirror sent them, add its address; otherwise
keep the port of the tunnel closed to its sender.";
    W077, Done, "a request only claims to be an upload",
"Sniffers mark their uploads with the header Sniffer-Upload-Marker, and skip what has such a marker and is an upload. Here
a request has one and is no POST of calls, or has the name of this sniffer and a hash that it did not make. It is read as
a call. Somebody may want to hide a request, or a proxy changes bodies on the way.";
    W078, Done, "packets are kept unmasked",
"With --keep-packets and --unmasked the last packets stay in memory as they came, so that the page and its API can give them as a capture
file. Rules mask calls, not packets: whoever has the token of the page can read everything that was sent, passwords included. The
page must be on a loopback address for it. Use it to look for a problem, and switch it off afterwards.";
    W080, Done, "a capture file ends early",
"The last packet of the file is cut: the file is still being written, or its copy was interrupted. Everything before the
cut was read.";
    W081, Done, "packets were cut when captured",
"The capture was made with a snap length: only the first bytes of each packet are in the file. What is missing is
skipped and marked. `tcpdump -s 0` captures whole packets.";
    W082, Done, "times go back in a capture file",
"Files are read in the order of the times of their packets, but a packet is much earlier than one before it in the same file:
the file was put together from several captures (mergecap -a, cat), or the clock was set. A file of at most 256 MiB is
then read as up to 16 parts, which are merged by time. Otherwise a request and its response on different sides of such a
place may not find each other.

  reordercap FILE SORTED      sorts a file
  sniffer read A B            merges separate files by time

At most 256 files that overlap are merged; more of them are read late, which this message reports too.";
    E080, Source, "a capture file cannot be read",
"The file is missing, is neither pcap nor pcapng, or has a link type that is not supported. gzip and zstd are decompressed;
`-` reads standard input.";
    E090, Source, "the capture source failed",
"Reading packets from the ring failed permanently. The message has the kernel's reason.";
    W100, Done, "another store has the port",
"Another program has the port of the embedded store and answers as a capture URL, so calls go there, over plain http on this
machine. The rules are those of the settings, or `include default`. For a store and a page of its own:

  SNIFFER_STORE=:7711 SNIFFER_UI=127.0.0.1:7710";
    E101, Usage, "the store cannot start",
"The embedded store could not open its database or its ports; the message has the reason. A folder serves one store at a time:
another one needs its own (--data DIR).";
    W102, Done, "a child process was restarted",
"A child process of the supervisor ended by itself and was started again. Its own messages precede this one in the log.";
    W103, Done, "the store cannot store calls",
"The database refuses bundles; the message has the reason, mostly a full disk. Each bundle is answered with 503, so that its
sender keeps it and tries again; what no longer fits its queue is dropped there and counted.

  df -h /var/lib/sniffer       the space that is left; --data DIR or SNIFFER_DATA is another folder
  --keep-bytes 500M            keeps less; --keep-calls and --keep-days do too";
    W104, Done, "no metrics",
"Another program, for example another sniffer, uses the default port of metrics. Capture goes on without metrics.
SNIFFER_METRICS=127.0.0.1:7712 (or --metrics) sets another port, SNIFFER_METRICS=off serves none.";
    E105, Usage, "metrics cannot be served at the given address",
"The program cannot listen on the address in SNIFFER_METRICS (or --metrics): it is in use, or not one of this machine's.";
    W106, Done, "strangers may open the page",
"The page shows captured calls, with whatever the rules leave in them. Every user and every container that shares the network
of a host reaches a page on its loopback address, so the page requires a token: at the first start one is made and kept in the
data folder. SNIFFER_UI_TOKEN=off switches that off, which is right only where something in front of the page decides who may
read, or where the calls are no secret. A token that is set has at least 16 characters, such as those of `openssl rand -hex 16`.";
    W107, Done, "strangers may learn a token",
"A token or a password goes over plain HTTP beyond this machine, so whoever sees a packet of it can use it; or it is short enough to be
found by trying. The store serves plain HTTP, and a capture URL that begins with http:// is plain HTTP as well. Put something that ends
TLS in front of the store, listen on loopback behind it (SNIFFER_STORE=127.0.0.1:7701), and give senders its https:// URL. A token has
at least 16 characters, such as those of `openssl rand -hex 16`.";
    E110, Unknown, "the control socket cannot be used",
"`sniffer on`, `off` and `status` reach the running program over a Unix socket that only its owner may open. Run them as
the same user, in the same container; --control PATH or SNIFFER_CONTROL sets another socket.";
    E111, Usage, "already running",
"Another sniffer answers on the control socket. Stop it first, or give this one its own socket with --control PATH.";
    E112, NotRunning, "nothing records the calls",
"`sniffer demo` found a running sniffer and made calls for it, or wanted to, and nothing recorded them. Its capture is off, or reads
other interfaces or ports. `sniffer on` switches it on; `sniffer status` shows what it reads.";
    E113, NotRunning, "there is no page to open",
"`sniffer page` prints the link that opens the page of the running all-in-one. It reaches that over the control socket, so run it
as the same user, in the same container: `docker exec NAME sniffer page`. A capture alone (`sniffer run`) has no page, and
neither has an all-in-one whose calls go to the store of another program (W100). `sniffer store` prints its link at its start
on a terminal; its token is in the file page.token of its data folder, unless SNIFFER_UI_TOKEN sets it.";
    E114, Unknown, "a node does not answer",
"`sniffer top` reads this host over the control socket, so it runs as the same user, in the same container; of other hosts it reads
the metrics port, which listens on loopback unless SNIFFER_METRICS names an address: SNIFFER_METRICS=:7702 listens on all of
them. A node that does not answer is tried again until it does.

  sniffer top --host 10.0.0.7 --host 10.0.0.8:7702";
    E120, Incomplete, "not everything was accounted for or delivered",
"`--strict` demands that every call and packet is complete. The ledger above shows what is missing and why.";
    E121, Usage, "a file cannot be written",
"The file of `--ledger FILE`, or that of `sniffer dashboard -o FILE`, cannot be created. `--ledger -` writes to standard output,
after the calls. The dashboard replaces no file.";
    E130, Usage, "a filter cannot be read",
"A filter chooses calls by comparisons and words: `status>=500 and host==api.shop timeout`. The message marks the place.

  == != < <= > >=           status>=500    took>1.5s    response_bytes>10kB    time>2026-01-31T12:00
  ~ !~                      path~\"^/v1/\"    a regular expression is found, or is not
  in                        method in (PUT, POST)
  and or not ( )            what stands side by side is joined by and
  a word, \"several words\"  is searched for in the whole call

Fields are time, took, method, host, path, url, endpoint, operation, status, request_bytes, response_bytes, content_type,
protocol, vni, client, server, appliance and others; request_header:NAME, response_header:NAME, request_param:NAME, fact.NAME
are the details of a call. docs/filter.md has all of it.";
    E131, Unknown, "the store does not answer",
"`sniffer tail`, `query` and `delete` send their requests to the store behind the page of the running all-in-one. They find it over
the control socket, so run them as the same user, in the same container. --page LINK names another one: the link that `sniffer
page` prints, or `http://HOST:PORT/?token=TOKEN` with the token of `sniffer store`.";
    E132, Usage, "the store refuses the request",
"The store could be reached and refuses what it was sent; the message has its reason, such as an error in the SQL. A deletion has to be
confirmed at a terminal, or with --yes.";
    E199, Bug, "a bug in the sniffer",
"The program reached a state that it should never reach. Please report the text above with the version.";
}

impl Code {
    /// Whether the program ends; otherwise it goes on, and `status` keeps the warning.
    pub fn stops(self) -> bool {
        self.name().starts_with('E')
    }

    /// The code of that name, in upper or lower case.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
