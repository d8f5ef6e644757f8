/** Help texts of the resource commands: descriptions, examples and options. Pure. */

/** Description of each command group, such as `control agent`. */
export const groupHelp: Readonly<Record<string, string>> = {
  agent: "Manage agents: machines that open tunnels",
  gateway: "Manage gateways: machines that accept visitors and forward them to agents",
  tunnel: "Manage tunnels: public domains and their targets behind agents",
  certificate: "Manage TLS certificates that gateways serve",
  key: "Manage API keys of agents and gateways",
  client: "List connected clients",
  audit: "Read the audit log",
  token: "Manage admin tokens",
  network: "Show the state of the network, and release a held update",
  node: "List the Control processes that share the database",
  "master-key": "Show and rotate the master key"
}

interface CommandHelp {
  readonly description: string
  /** A complete command line. */
  readonly example: string
}

/** Help of each command, by its words after `control`. */
export const commandHelp: Readonly<Record<string, CommandHelp>> = {
  "agent create": {
    description: "Create an agent with a subnet, a WireGuard key pair and its first API key",
    example: "control agent create home -o env"
  },
  "agent list": { description: "List agents, oldest first", example: "control agent list --status offline" },
  "agent get": { description: "Show an agent", example: "control agent get home" },
  "agent update": {
    description: "Change an agent; omitted options keep their values",
    example: "control agent update home --name office"
  },
  "agent delete": {
    description: "Delete an agent, revoke its API keys and close its connection",
    example: "control agent delete home --cascade true"
  },
  "agent run": {
    description: "Run an agent, which carries the traffic of its tunnels; `control agent run --help` shows the options",
    example: "control agent run --env-file home.env"
  },
  "gateway run": {
    description: "Run a gateway, which serves visitors; `control gateway run --help` shows the options",
    example: "control gateway run --env-file edge.env"
  },
  "gateway create": {
    description: "Create a gateway with a WireGuard key pair and its first API key",
    example: "control gateway create edge-1 --public-ip 203.0.113.7 --listen-port 51820"
  },
  "gateway list": { description: "List gateways, oldest first", example: "control gateway list -o json" },
  "gateway get": { description: "Show a gateway", example: "control gateway get edge-1" },
  "gateway update": {
    description: "Change a gateway; omitted options keep their values",
    example: "control gateway update edge-1 --public-ip 203.0.113.8 --wait applied"
  },
  "gateway delete": {
    description: "Delete a gateway, revoke its API keys and close its connection",
    example: "control gateway delete edge-1"
  },
  "tunnel create": {
    description: "Create a tunnel",
    example: "control tunnel create --agent home --domain app.example.com --target localhost:8080"
  },
  "tunnel list": { description: "List tunnels, oldest first", example: "control tunnel list --agent home" },
  "tunnel get": { description: "Show a tunnel", example: "control tunnel get app.example.com" },
  "tunnel update": {
    description: "Change a tunnel; omitted options keep their values",
    example: "control tunnel update app.example.com --no-enabled"
  },
  "tunnel delete": { description: "Delete a tunnel", example: "control tunnel delete app.example.com --wait sent" },
  "certificate create": {
    description: "Store a certificate, replacing the one of this domain",
    example: "control certificate create app.example.com --certificate @fullchain.pem --private-key @key.pem"
  },
  "certificate list": { description: "List certificates, oldest first", example: "control certificate list -o json" },
  "certificate get": { description: "Show a certificate", example: "control certificate get app.example.com" },
  "certificate delete": {
    description: "Delete a certificate",
    example: "control certificate delete app.example.com"
  },
  "key create": {
    description: "Create another API key for an agent or a gateway",
    example: "control key create --agent home -o env"
  },
  "key list": {
    description: "List the API keys of an agent or a gateway, without their secrets",
    example: "control key list --gateway edge-1"
  },
  "key delete": {
    description: "Revoke an API key",
    example: "control key delete KEY_ID --agent home"
  },
  "client list": { description: "List connected agents and gateways", example: "control client list -o json" },
  "audit list": {
    description: "List changes with their actors, newest first",
    example: "control audit list --entity-type tunnel --since 2026-11-01T00:00:00Z"
  },
  "token self": { description: "Show the admin token that this command uses", example: "control token self" },
  "token create": {
    description: "Create an admin token",
    example: "control token create --name ci --role operate --expires-in 86400"
  },
  "token list": { description: "List admin tokens, without their secrets", example: "control token list" },
  "token get": {
    description: "Show an admin token, without its secret",
    example: "control token get TOKEN_ID"
  },
  "token delete": {
    description: "Revoke an admin token on every node",
    example: "control token delete TOKEN_ID"
  },
  "network get": {
    description: "Show the revision that the node has reached, unreadable rows and a held update",
    example: "control network get -o json"
  },
  "network accept": {
    description: "Release a held update; clients then remove the rows that the database lacks",
    example: "control network accept --timeline TIMELINE"
  },
  "node list": { description: "List nodes with version and state", example: "control node list" },
  "master-key get": {
    description: "Show the ids of the master keys in use, never the keys",
    example: "control master-key get -o json"
  },
  "master-key rotate": {
    description: "Encrypt all secrets in the database under another master key",
    example: "control master-key rotate --generate"
  }
}

/** Whether the option accepts `@FILE`: a PEM or JSON is rarely typed, and other users can read a command line. */
export const isFileInput = (name: string): boolean => fileInputs.has(name)

const fileInputs: ReadonlySet<string> = new Set(["certificate", "privateKey", "serves"])

/** Description of each argument and option, by its name; "<command words> <name>" overrides the name alone. */
export const inputHelp: Readonly<Record<string, string>> = {
  name: "Display name, for example home",
  wait:
    "Wait until connected clients were sent the change (sent), have applied it (applied), or, for tunnels, serve it (serving)",
  timeout: "Maximum duration of --wait, for example 5s (default) or 500 millis",
  limit: "Page size from 1 to 1000; without it, every page is read",
  cursor: "Start of the page: nextCursor of the previous page",
  cascade: "Delete the tunnels of the agent as well; otherwise an agent with tunnels is not deleted",
  serves: `Agents and domains that the gateway serves, for example '{"agents":["ID"],"domains":[]}'; null serves all`,
  publicIp: "Address at which agents reach the gateway, for example 203.0.113.7; null removes it",
  listenPort: "WireGuard port (UDP) of the gateway, for example 51820",
  agentId: "Name or id of the agent that serves the tunnel",
  domain: "Domain, for example app.example.com or *.example.com",
  target: "Host and port to which the agent forwards traffic, for example localhost:8080",
  enabled: "Enable the tunnel; --no-enabled disables it",
  protocol: "Protocol, by default http (by Host and SNI); tls is passed through by SNI, tcp and udp by --listen-port",
  proxyProtocol: "PROXY header with the visitor's address for the service: none, v1 or v2 (tcp and tls)",
  tls: "Check of the certificate of an https:// target by gateways: verify (default) or insecure",
  "tunnel create name": "Name of the tunnel, for example minecraft; required for tcp and udp",
  "tunnel update name": "Name of the tunnel, for example minecraft; null removes it",
  "tunnel create listenPort": "Public port at the gateways of a tcp or udp tunnel, for example 25565",
  "tunnel update listenPort": "Public port at the gateways of a tcp or udp tunnel, for example 25565; null removes it",
  "tunnel create domain": "Domain, for example app.example.com or *.example.com; optional for tcp and udp",
  "tunnel update domain": "Domain, for example app.example.com or *.example.com; null removes that of tcp and udp",
  certificate: "Certificate chain (PEM), for example @fullchain.pem",
  privateKey: "Private key (PEM), for example @key.pem; a command line is visible to other users, a file is not",
  keyId: "Id of the API key, as key list shows it",
  agent: "Name or id of the agent that owns the key",
  gateway: "Name or id of the gateway that owns the key",
  entityType: "Type of the changed resources",
  entityId: "Id of the changed resource, or a name of agents and gateways; of a certificate, its domain",
  actor: "Actor of the changes, for example admin or token:TOKEN_ID",
  since: "Start of the period (inclusive), for example 2026-11-01T00:00:00Z",
  until: "End of the period (exclusive), for example 2026-12-01T00:00:00Z",
  role: "Permissions: read; operate (read and change); admin (everything, including tokens)",
  expiresIn: "Lifetime in seconds, for example 86400; without an expiry, the token never expires",
  expiresAt: "Expiry time, for example 2027-01-01T00:00:00Z",
  timeline: "Timeline of the held update, as network get shows it",
  generate: "Generate a new master key in the data directory; for a single node without CONTROL_MASTER_KEY",
  status: "State of the clients",
  q: "Part of a name or an address, or the beginning of an id",
  "agent list name": "Name of the agent",
  "gateway list name": "Name of the gateway",
  "client list name": "Name of the client",
  "tunnel list agent": "Name or id of the agent",
  "tunnel list status": "Status that the agent has reported, for example active",
  "tunnel list q": "Part of a domain, a name or a target, or the beginning of an id",
  "tunnel list name": "Name of the tunnel, for example minecraft",
  "tunnel list protocol": "Protocol of the tunnels",
  "certificate list q": "Part of a domain",
  "gateway create name": "Display name, for example edge-1",
  "gateway update name": "Display name, for example edge-1",
  "token create name": "Display name, for example deploy",
  "agent get id": "Name or id of the agent",
  "agent update id": "Name or id of the agent",
  "agent delete id": "Name or id of the agent",
  "gateway get id": "Name or id of the gateway",
  "gateway update id": "Name or id of the gateway",
  "gateway delete id": "Name or id of the gateway",
  "tunnel get id": "Domain, name or id of the tunnel",
  "tunnel update id": "Domain, name or id of the tunnel",
  "tunnel delete id": "Domain, name or id of the tunnel",
  "token get id": "Id of the token, as token list shows it",
  "token delete id": "Id of the token, as token list shows it",
  "certificate create expiresAt": "Expiry time; read from the certificate by default",
  "master-key rotate keyId":
    "Id of the new master key, which every node must have; by default that of CONTROL_MASTER_KEY"
}
