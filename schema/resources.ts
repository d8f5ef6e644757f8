/** Resources of the HTTP API. They contain no private keys and no hashes. */
import { Schema } from "effect"
import { PeerReport } from "./statusMessage.ts"
import { pemFields, storedText } from "./sharedFields.ts"
import {
  AgentId,
  ClientName,
  ClientType,
  GatewayId,
  HostName,
  HostNameFromInput,
  IpAddress,
  Ipv4,
  Ipv4Cidr,
  KeyId,
  Port,
  Revision,
  Timestamp,
  TunnelId
} from "./ids.ts"

export const timestampField = (description: string) => Timestamp.annotate({ description })

export const rowTimes = {
  createdAt: timestampField("Time of creation."),
  updatedAt: timestampField("Time of the last change. Coming online or going offline is not a change.")
}

const apiKey = Schema.String.annotate({
  description: "The secret for `auth`. The API returns it only once, because Control stores only its hash."
})

const connectionFields = {
  since: timestampField("Time of authentication."),
  address: storedText("IP address of the client."),
  level: storedText("Negotiated protocol level: `plain` or `control.v1`."),
  clientVersion: Schema.NullOr(Schema.String).annotate({
    description: "Name and version of the client software; null if not reported."
  })
}

/** Reference to a client, for lists that have both agents and gateways. */
export const clientFields = {
  clientType: ClientType,
  clientId: Schema.String.annotate({ description: "Id of the agent or gateway." })
}

/** Revision that a client rejected, with the reason. */
export const nackFields = {
  revision: Revision.annotate({ description: "Revision that the client could not apply." }),
  code: Schema.String.annotate({
    description: "Reason for programs, in the client's own vocabulary, for example `port_in_use`."
  }),
  message: Schema.String.annotate({ description: "Reason for operators, in the client's own words." }),
  tunnelId: Schema.optionalKey(Schema.String).annotate({
    description: "Tunnel that caused the failure, if there is one."
  })
}

/** Delivery state of a client: last revision sent, acknowledged and rejected. */
const deliveryStateFields = {
  sentRevision: Schema.NullOr(Revision).annotate({
    description: "Revision up to which the client was sent everything; null while it is offline."
  }),
  appliedRevision: Schema.NullOr(Revision).annotate({
    description:
      "Revision up to which the client has acknowledged everything as applied; null while it is offline or if it never acknowledges."
  }),
  lastNack: Schema.NullOr(Schema.Struct({ ...nackFields, at: timestampField("Time of receipt.") })).annotate({
    description:
      "Latest rejection of the client's last connection that no later acknowledgement has cleared, also while it is offline; null if there is none."
  })
}

const Session = Schema.NullOr(Schema.Struct(connectionFields)).annotate({
  description: "The open connection; null while the client is offline."
})

/** PostgreSQL's text cannot hold NUL, so that no row has such an id. The check saves a query that would fail. */
export const noNulCharacter = Schema.isPattern(/^[^\0]*$/u, { message: "expected no NUL character" })

/**
 * A name or an id in a request. It is looser than ids in rows, so that an operator can delete an unreadable row. The limit is
 * twice 128 because PostgreSQL counts a surrogate pair as one character.
 */
const reference = Schema.String.check(Schema.isBetweenLength(1, 256), noNulCharacter)
export const AgentReference = reference.annotate({ description: "Name or id of the agent, for example `home`." })
export const GatewayReference = reference.annotate({ description: "Name or id of the gateway, for example `edge-1`." })
export const TunnelReference = reference.annotate({ description: "Domain (`http`, `tls`), name or id of the tunnel." })

/** Ids in requests. They are checked more strictly than ids in rows. */
export const AgentIdInput = AgentId.check(noNulCharacter)
export const GatewayIdInput = GatewayId.check(noNulCharacter)
export const TunnelIdInput = TunnelId.check(noNulCharacter)
export const KeyIdInput = KeyId.check(noNulCharacter)

const presenceFields = {
  status: Schema.Literals(["online", "offline"]).annotate({ description: "Whether the client is connected." }),
  lastSeenAt: Schema.NullOr(Timestamp).annotate({
    description: "Time of the last message, to within a few seconds; null if the client never connected."
  }),
  session: Session,
  ...deliveryStateFields
}

export const Agent = Schema.Struct({
  id: AgentId,
  name: storedText("Display name."),
  virtualIp: Ipv4.annotate({ description: "Address inside the network." }),
  subnet: Ipv4Cidr.annotate({ description: "The agent's /24 of the network, in CIDR notation." }),
  wireguardPublicKey: storedText("WireGuard public key in base64."),
  ...presenceFields,
  ...rowTimes
}).annotate({ identifier: "Agent", description: "Client that runs next to a service, behind NAT." })
export type Agent = typeof Agent.Type

const peers = Schema.Array(PeerReport).annotate({
  description:
    "Reports of the client's open connection about its WireGuard peers, newest handshake first, at most 1000. Empty while the client is offline."
})

export const AgentDetails = Schema.Struct({ ...Agent.fields, peers }).annotate({ identifier: "AgentDetails" })

export const NewAgent = Schema.Struct({ name: ClientName }).annotate({ identifier: "NewAgent" })
export type NewAgent = typeof NewAgent.Type

export const AgentPatch = Schema.Struct({ name: Schema.optionalKey(ClientName) }).annotate({ identifier: "AgentPatch" })
export type AgentPatch = typeof AgentPatch.Type

export const CreatedAgent = Schema.Struct({ ...Agent.fields, apiKey })

const publicIp = Schema.NullOr(IpAddress).annotate({
  description: "IPv4 or IPv6 address at which agents reach the gateway; null until it is known."
})
const listenPort = Port.annotate({ description: "UDP port of the gateway's WireGuard. Default: 51820." })

/** Limit of a scope's agents and domains together. A larger scope would make each of its changes expensive to send. */
const maxScopeEntries = 1_000

const scopeDescription =
  "Scope of the gateway: it serves the tunnels of these agents and the tunnels with these domains, and sees no other agent, " +
  "tunnel or certificate. `*.example.com` covers one label below example.com. Null: the gateway serves all tunnels."

export const Gateway = Schema.Struct({
  id: GatewayId,
  serves: Schema.NullOr(Schema.Struct({ agents: Schema.Array(AgentId), domains: Schema.Array(HostName) })).annotate({
    description: scopeDescription
  }),
  name: storedText("Display name."),
  publicIp: Schema.NullOr(Schema.String).annotate({
    description: "IPv4 or IPv6 address at which agents reach the gateway; null until it is known."
  }),
  listenPort,
  wireguardPublicKey: storedText("WireGuard public key in base64."),
  ...presenceFields,
  ...rowTimes
}).annotate({ identifier: "Gateway", description: "Client that runs on a public address and receives the traffic." })
export type Gateway = typeof Gateway.Type

export const GatewayDetails = Schema.Struct({ ...Gateway.fields, peers }).annotate({ identifier: "GatewayDetails" })

/** Scope in a request. A scope without agents and domains serves no tunnel. */
const ScopeRequest = Schema.Struct({
  agents: Schema.optionalKey(Schema.Array(AgentReference)),
  domains: Schema.optionalKey(Schema.Array(HostNameFromInput))
}).check(Schema.makeFilter(
  ({ agents = [], domains = [] }) =>
    agents.length + domains.length <= maxScopeEntries ||
    `expected at most ${maxScopeEntries} agents and domains together`
))
export type ScopeRequest = typeof ScopeRequest.Type

/** A scope whose agents are known by their ids. */
export interface ScopeInput {
  readonly agents?: ReadonlyArray<AgentId>
  readonly domains?: ReadonlyArray<HostName>
}

const optionalGatewayFields = {
  serves: Schema.optionalKey(Schema.NullOr(ScopeRequest)).annotate({ description: scopeDescription }),
  publicIp: Schema.optionalKey(publicIp),
  listenPort: Schema.optionalKey(listenPort)
}

type WithScopeOfIds<Request> = Omit<Request, "serves"> & { readonly serves?: ScopeInput | null }

export const NewGatewayRequest = Schema.Struct({ name: ClientName, ...optionalGatewayFields }).annotate({
  identifier: "NewGateway"
})
export type NewGateway = WithScopeOfIds<typeof NewGatewayRequest.Type>

export const GatewayPatchRequest = Schema.Struct({ name: Schema.optionalKey(ClientName), ...optionalGatewayFields })
  .annotate({ identifier: "GatewayPatch" })
export type GatewayPatch = WithScopeOfIds<typeof GatewayPatchRequest.Type>

export const CreatedGateway = Schema.Struct({ ...Gateway.fields, apiKey })

export const Certificate = Schema.Struct({
  domain: storedText("Host name of the certificate."),
  certificate: storedText("PEM (RFC 7468): the certificate, followed by its chain."),
  expiresAt: timestampField("Time of expiry."),
  source: Schema.NullOr(
    storedText("Who stored it: an `actor` as in the audit, for example `gateway:5f0c`; null if unknown.")
  ),
  withheld: Schema.Boolean.annotate({
    description:
      "True while no gateway receives it: a limited gateway stored it, and it covers a tunnel which that gateway does not serve."
  }),
  ...rowTimes
}).annotate({
  identifier: "Certificate",
  description: "Certificate that gateways serve for a domain. The API never returns its private key."
})
export type Certificate = typeof Certificate.Type

export const CertificatePut = Schema.Struct({
  ...pemFields,
  expiresAt: Schema.optionalKey(Timestamp).annotate({
    description: "Optional, because it is read from the certificate. A given value must match."
  })
}).annotate({ identifier: "CertificatePut" })
export type CertificatePut = typeof CertificatePut.Type

export const Key = Schema.Struct({
  id: KeyId,
  createdAt: rowTimes.createdAt,
  lastUsedAt: Schema.NullOr(Timestamp).annotate({
    description: "Time of the last authentication with the key; null if the key was never used."
  })
}).annotate({
  identifier: "Key",
  description: "Valid API key of an agent or gateway, without its secret."
})
export type Key = typeof Key.Type

export const CreatedKey = Schema.Struct({ id: KeyId, apiKey })

export const ConnectedClient = Schema.Struct({
  ...clientFields,
  name: storedText("Display name."),
  node: Schema.NullOr(Schema.String).annotate({
    description: "Name of the node that holds the connection; null for a node of version 0.2.0."
  }),
  ...connectionFields,
  lastSeenAt: presenceFields.lastSeenAt,
  ...deliveryStateFields
}).annotate({ identifier: "ConnectedClient", description: "Agent or gateway that is connected to a node." })
export type ConnectedClient = typeof ConnectedClient.Type
