/** Definitions of all settings: variable, default, description and parser. `.env.example` is generated from them. */
import { Duration, Option, type Redacted } from "effect"
import { hostname } from "node:os"
import * as Parse from "./parse.ts"

interface NamedSetting {
  /** The environment variable. A secret can also be in the file whose path is in `<name>_FILE`. */
  readonly name: string
  readonly description: string
}

export interface PlainSetting<A> extends NamedSetting, Parse.Parser<A> {
  readonly kind: "plain"
  /** The default as text, in the form of the variable. */
  readonly default: string
  /** A description of the default, if the default depends on the machine. */
  readonly defaultNote?: string
  readonly fallback: A
}

/** A secret has no default. An unset secret is generated or not used. */
export interface SecretSetting extends NamedSetting, Parse.Parser<string> {
  readonly kind: "secret"
  readonly fallback: Option.Option<Redacted.Redacted<string>>
}

const plain = <A>(
  parser: Parse.Parser<A>,
  setting: NamedSetting & { readonly default: string; readonly defaultNote?: string }
): PlainSetting<A> => ({
  kind: "plain",
  ...parser,
  ...setting,
  fallback: Option.getOrThrow(parser.parse(setting.default))
})

const secret = (parser: Parse.Parser<string>, setting: NamedSetting): SecretSetting => ({
  kind: "secret",
  ...parser,
  ...setting,
  fallback: Option.none()
})

const port = Parse.wholeNumber(0, 65_535, " (0: any free port)")

/** A shorter timeout would close healthy clients, because a busy machine can pause for more than 1 s. */
const minHeartbeatTimeout = Duration.seconds(2)
const minDuration = Duration.millis(10)

export const definitions = {
  wsHost: plain(Parse.host, {
    name: "CONTROL_WS_HOST",
    default: "::",
    description:
      "Address on which agents and gateways connect. `::` is every IPv4 and IPv6 address, or every IPv4 address of a machine without IPv6."
  }),
  wsPort: plain(port, {
    name: "CONTROL_WS_PORT",
    default: "3001",
    description: "Port on which agents and gateways connect (WebSocket)."
  }),
  publicUrl: plain(Parse.optionalWebSocketUrl, {
    name: "CONTROL_PUBLIC_URL",
    default: "",
    description:
      "URL at which agents and gateways reach this server, for example `wss://control.example.com`; `control agent create -o env` prints it. Unset: an address of this machine with CONTROL_WS_PORT."
  }),
  apiHost: plain(Parse.host, {
    name: "CONTROL_API_HOST",
    default: "127.0.0.1",
    description: "Address on which operators connect; `::` is every address, as for CONTROL_WS_HOST."
  }),
  apiPort: plain(port, {
    name: "CONTROL_API_PORT",
    default: "3000",
    description: "Port on which operators connect (HTTP)."
  }),
  tlsCertificate: plain(Parse.optionalPath, {
    name: "CONTROL_TLS_CERTIFICATE",
    default: "",
    description: "Certificate chain (PEM) for TLS on both ports; reloaded when the file changes. Unset: plaintext."
  }),
  tlsPrivateKey: plain(Parse.optionalPath, {
    name: "CONTROL_TLS_PRIVATE_KEY",
    default: "",
    description: "Private key of the certificate (PEM, without a passphrase)."
  }),
  requireTls: plain(Parse.flag, {
    name: "CONTROL_REQUIRE_TLS",
    default: "false",
    description: "Reject plaintext connections from other machines, except requests for health and metrics."
  }),
  trustedProxies: plain(Parse.cidrs, {
    name: "CONTROL_TRUSTED_PROXIES",
    default: "",
    description:
      "Proxies whose X-Forwarded-For, X-Forwarded-Proto and (with CONTROL_PROXY_PROTOCOL) PROXY header are trusted."
  }),
  proxyProtocol: plain(Parse.ports, {
    name: "CONTROL_PROXY_PROTOCOL",
    default: "off",
    description:
      "Ports on which trusted proxies must send a PROXY protocol header (version 1 or 2) at the start of each connection."
  }),
  allowedHosts: plain(Parse.hosts, {
    name: "CONTROL_ALLOWED_HOSTS",
    default: "",
    description: "Additional host names of the API; its own address and loopback names are always allowed."
  }),
  allowedOrigins: plain(Parse.origins, {
    name: "CONTROL_ALLOWED_ORIGINS",
    default: "",
    description:
      "Additional origins of web pages that may use the API or connect; agents and gateways are not web pages."
  }),
  databaseUrl: secret(Parse.databaseUrl, {
    name: "DATABASE_URL",
    description: "Database (PostgreSQL 15 or newer). Unset: an embedded PostgreSQL in the data directory."
  }),
  listenUrl: secret(Parse.databaseUrl, {
    name: "CONTROL_LISTEN_URL",
    description:
      "Direct connection to the database, for LISTEN and session locks, if DATABASE_URL leads to a pooler in transaction mode."
  }),
  nodeName: plain(Parse.nodeName, {
    name: "CONTROL_NODE_NAME",
    default: hostname().slice(0, 128) || "control",
    defaultNote: "the host name of this machine",
    description: "Name of this node among the nodes that share the database."
  }),
  dataDir: plain(Parse.path, {
    name: "CONTROL_DATA_DIR",
    default: "./data",
    description:
      "Directory of the embedded database, the generated secrets and the socket of `control`; used by one process at a time."
  }),
  adminToken: secret(Parse.token, {
    name: "CONTROL_ADMIN_TOKEN",
    description: "Admin token of the HTTP API. Unset: generated in the file admin-token of the data directory."
  }),
  masterKey: secret(Parse.masterKey, {
    name: "CONTROL_MASTER_KEY",
    description:
      "Key that encrypts the private keys in the database. Unset: generated in the file master-key of the data directory."
  }),
  oldMasterKeys: secret(Parse.masterKeys, {
    name: "CONTROL_MASTER_KEYS_OLD",
    description: "Additional master keys for decryption, needed while the master key is rotated."
  }),
  heartbeatInterval: plain(Parse.duration(minDuration), {
    name: "CONTROL_HEARTBEAT_INTERVAL",
    default: "30 seconds",
    description: "Interval of the search for silent clients; at most CONTROL_HEARTBEAT_TIMEOUT."
  }),
  heartbeatTimeout: plain(Parse.duration(minHeartbeatTimeout), {
    name: "CONTROL_HEARTBEAT_TIMEOUT",
    default: "60 seconds",
    description: "Maximum silence of a client before its connection is closed."
  }),
  authTimeout: plain(Parse.duration(minDuration), {
    name: "CONTROL_AUTH_TIMEOUT",
    default: "10 seconds",
    description: "Maximum time from the connection to the authentication of a client."
  }),
  drainTimeout: plain(Parse.duration(minDuration), {
    name: "CONTROL_DRAIN_TIMEOUT",
    default: "10 seconds",
    description: "Maximum duration of a shutdown. A longer one is cut off, and the process exits with 1."
  }),
  maxMessageBytes: plain(Parse.wholeNumber(1024, 16_777_216), {
    name: "CONTROL_MAX_MESSAGE_BYTES",
    default: "262144",
    description: "Maximum size in bytes of a message from a client."
  }),
  maxMessagesPerSecond: plain(Parse.wholeNumber(1, 100_000), {
    name: "CONTROL_MAX_MESSAGES_PER_SECOND",
    default: "50",
    description: "Maximum messages per second from one connection; a burst may have four times as many."
  }),
  auditRetention: plain(Parse.days(30, 36_500), {
    name: "CONTROL_AUDIT_RETENTION",
    default: "400 days",
    description: "Age after which audit entries are deleted. Nodes of one database should have the same value."
  }),
  maxBytesPerSecond: plain(Parse.wholeNumber(16_384, 1_073_741_824), {
    name: "CONTROL_MAX_BYTES_PER_SECOND",
    default: "262144",
    description: "Maximum bytes per second from one connection; a burst may have four times as many."
  }),
  maxConnections: plain(Parse.wholeNumber(1, 1_000_000), {
    name: "CONTROL_MAX_CONNECTIONS",
    default: "20000",
    description: "Maximum number of connections of agents and gateways, authenticated or not."
  }),
  maxUnauthenticated: plain(Parse.wholeNumber(1, 1_000_000), {
    name: "CONTROL_MAX_UNAUTHENTICATED",
    default: "4096",
    description: "Maximum number of connections that are not yet authenticated."
  }),
  maxUnauthenticatedPerIp: plain(Parse.wholeNumber(1, 1_000_000), {
    name: "CONTROL_MAX_UNAUTHENTICATED_PER_IP",
    default: "1024",
    description:
      "Maximum number of unauthenticated connections from one address, at most half of all; many clients can share an address."
  }),
  mtu: plain(Parse.wholeNumber(576, 1_420, " bytes"), {
    name: "CONTROL_MTU",
    default: "1280",
    description:
      "Largest packet inside the WireGuard tunnels, in bytes. The default passes every path; a client gets a new value with its next `config`."
  }),
  networkPool: plain(Parse.networkPool, {
    name: "CONTROL_NETWORK_POOL",
    default: "10.64.0.0/10",
    description: "Network from which each agent receives a /24."
  }),
  logLevel: plain(Parse.logLevel, {
    name: "CONTROL_LOG_LEVEL",
    default: "info",
    description: "Minimum level of log lines."
  }),
  logFormat: plain(Parse.logFormat, {
    name: "CONTROL_LOG_FORMAT",
    default: "json",
    defaultNote: "pretty on a terminal, otherwise json",
    description: "Format of log lines: json (one object per line) or pretty (text for people)."
  })
}

/** Every variable of the server, including `…_FILE` of the secrets. */
export const knownNames: ReadonlyArray<string> = Object.values(definitions).flatMap((setting) =>
  setting.kind === "secret" ? [setting.name, `${setting.name}_FILE`] : [setting.name]
)
