/** Every setting: its variable, its default, what it is for and what it may be. Reading and `.env.example` both follow this table. */
import { Duration, Option, type Redacted } from "effect"
import { hostname } from "node:os"
import * as Parse from "./parse.ts"

interface Described {
  /** The environment variable; a secret may also come as `<name>_FILE`. */
  readonly name: string
  readonly description: string
}

export interface Plain<A> extends Described, Parse.Parser<A> {
  readonly kind: "plain"
  /** The default as one would write it. */
  readonly default: string
  /** Set where the default depends on the surroundings: how to say it instead. */
  readonly defaultNote?: string
  readonly fallback: A
}

/** A secret has no default in the source: unset, it is generated or not used. */
export interface Secret extends Described, Parse.Parser<string> {
  readonly kind: "secret"
  readonly fallback: Option.Option<Redacted.Redacted<string>>
}

const plain = <A>(
  parser: Parse.Parser<A>,
  setting: Described & { readonly default: string; readonly defaultNote?: string }
): Plain<A> => ({
  kind: "plain",
  ...parser,
  ...setting,
  fallback: Option.getOrThrow(parser.parse(setting.default))
})

const secret = (parser: Parse.Parser<string>, setting: Described): Secret => ({
  kind: "secret",
  ...parser,
  ...setting,
  fallback: Option.none()
})

const port = Parse.wholeNumber(0, 65_535, " (0: any free port)")

/** Shorter would send away clients that are well: a busy machine pauses for longer. */
const shortestSilence = Duration.seconds(2)
const shortestWait = Duration.millis(10)

export const definitions = {
  wsHost: plain(Parse.host, {
    name: "CONTROL_WS_HOST",
    default: "0.0.0.0",
    description: "Address on which agents and gateways connect."
  }),
  wsPort: plain(port, {
    name: "CONTROL_WS_PORT",
    default: "3001",
    description: "Port on which agents and gateways connect (WebSocket)."
  }),
  apiHost: plain(Parse.host, {
    name: "CONTROL_API_HOST",
    default: "127.0.0.1",
    description: "Address on which operators connect."
  }),
  apiPort: plain(port, {
    name: "CONTROL_API_PORT",
    default: "3000",
    description: "Port on which operators connect (HTTP)."
  }),
  tlsCertificate: plain(Parse.optionalPath, {
    name: "CONTROL_TLS_CERTIFICATE",
    default: "",
    description: "Certificate chain (PEM) for TLS on both ports; read again when it changes. Unset: plaintext."
  }),
  tlsPrivateKey: plain(Parse.optionalPath, {
    name: "CONTROL_TLS_PRIVATE_KEY",
    default: "",
    description: "The certificate's private key (PEM, without a passphrase)."
  }),
  requireTls: plain(Parse.flag, {
    name: "CONTROL_REQUIRE_TLS",
    default: "false",
    description: "Refuse what comes in plaintext from beyond this machine, but for health and metrics."
  }),
  trustedProxies: plain(Parse.cidrs, {
    name: "CONTROL_TRUSTED_PROXIES",
    default: "",
    description:
      "Proxies that are believed: X-Forwarded-For, X-Forwarded-Proto, and with CONTROL_PROXY_PROTOCOL its header."
  }),
  proxyProtocol: plain(Parse.ports, {
    name: "CONTROL_PROXY_PROTOCOL",
    default: "off",
    description:
      "Ports on which trusted proxies must begin each connection with a header of the PROXY protocol (1 or 2)."
  }),
  allowedHosts: plain(Parse.hosts, {
    name: "CONTROL_ALLOWED_HOSTS",
    default: "",
    description: "More names by which operators may call the API: its address and those of loopback are allowed anyway."
  }),
  allowedOrigins: plain(Parse.origins, {
    name: "CONTROL_ALLOWED_ORIGINS",
    default: "",
    description: "Web pages that may ask, beside the API's own: agents and gateways are none."
  }),
  databaseUrl: secret(Parse.databaseUrl, {
    name: "DATABASE_URL",
    description: "PostgreSQL 15 or newer. Unset: an embedded PostgreSQL in the data directory."
  }),
  nodeName: plain(Parse.nodeName, {
    name: "CONTROL_NODE_NAME",
    default: hostname().slice(0, 128) || "control",
    defaultNote: "the host's name",
    description: "What this process is called among those that share the database."
  }),
  dataDir: plain(Parse.path, {
    name: "CONTROL_DATA_DIR",
    default: "./data",
    description: "Holds the embedded database and the generated secrets; one process at a time."
  }),
  adminToken: secret(Parse.token, {
    name: "CONTROL_ADMIN_TOKEN",
    description: "Admin token of the HTTP API. Unset: generated to the file admin-token in the data directory."
  }),
  masterKey: secret(Parse.masterKey, {
    name: "CONTROL_MASTER_KEY",
    description: "Encrypts private keys in the database. Unset: generated to the file master-key in the data directory."
  }),
  oldMasterKeys: secret(Parse.masterKeys, {
    name: "CONTROL_MASTER_KEYS_OLD",
    description: "Other master keys that may still be needed to read, while the master key is being changed."
  }),
  heartbeatInterval: plain(Parse.duration(shortestWait), {
    name: "CONTROL_HEARTBEAT_INTERVAL",
    default: "30 seconds",
    description: "How often to look for silent clients; at most the heartbeat timeout."
  }),
  heartbeatTimeout: plain(Parse.duration(shortestSilence), {
    name: "CONTROL_HEARTBEAT_TIMEOUT",
    default: "60 seconds",
    description: "How long a client may be silent before its connection is closed."
  }),
  authTimeout: plain(Parse.duration(shortestWait), {
    name: "CONTROL_AUTH_TIMEOUT",
    default: "10 seconds",
    description: "How long a new connection may take to authenticate."
  }),
  drainTimeout: plain(Parse.duration(shortestWait), {
    name: "CONTROL_DRAIN_TIMEOUT",
    default: "10 seconds",
    description: "How long a shutdown may take before what is left is cut off."
  }),
  maxMessageBytes: plain(Parse.wholeNumber(1024, 16_777_216), {
    name: "CONTROL_MAX_MESSAGE_BYTES",
    default: "262144",
    description: "Largest message that a client may send, in bytes."
  }),
  maxMessagesPerSecond: plain(Parse.wholeNumber(1, 100_000), {
    name: "CONTROL_MAX_MESSAGES_PER_SECOND",
    default: "50",
    description: "Messages a second that one connection may send; four times as many in a burst."
  }),
  maxBytesPerSecond: plain(Parse.wholeNumber(16_384, 1_073_741_824), {
    name: "CONTROL_MAX_BYTES_PER_SECOND",
    default: "262144",
    description: "Bytes a second that are read from one connection; four times as many in a burst."
  }),
  maxConnections: plain(Parse.wholeNumber(1, 1_000_000), {
    name: "CONTROL_MAX_CONNECTIONS",
    default: "20000",
    description: "Agents and gateways that may be connected at a time, authenticated or not."
  }),
  maxUnauthenticated: plain(Parse.wholeNumber(1, 1_000_000), {
    name: "CONTROL_MAX_UNAUTHENTICATED",
    default: "4096",
    description: "Connections that may wait for authentication at a time."
  }),
  maxUnauthenticatedPerIp: plain(Parse.wholeNumber(1, 1_000_000), {
    name: "CONTROL_MAX_UNAUTHENTICATED_PER_IP",
    default: "1024",
    description: "The same for one address; keep it wide, since many clients may share an address."
  }),
  networkPool: plain(Parse.networkPool, {
    name: "CONTROL_NETWORK_POOL",
    default: "10.64.0.0/10",
    description: "Network from which each agent gets a /24."
  }),
  logLevel: plain(Parse.logLevel, {
    name: "CONTROL_LOG_LEVEL",
    default: "info",
    description: "Least severe messages to log."
  }),
  logFormat: plain(Parse.logFormat, {
    name: "CONTROL_LOG_FORMAT",
    default: "json",
    defaultNote: "pretty on a terminal, else json",
    description: "Log as one JSON object a line, or for people."
  })
}

/** Every name that may be set, `…_FILE` of the secrets included. */
export const knownNames: ReadonlyArray<string> = Object.values(definitions).flatMap((setting) =>
  setting.kind === "secret" ? [setting.name, `${setting.name}_FILE`] : [setting.name]
)
