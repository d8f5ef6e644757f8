/** What operators see and give: the resources of the HTTP API. Never a private key, never a hash. */
import { Schema, SchemaGetter } from "effect"
import { pemFields, stored, tunnelFields } from "./sharedFields.ts"
import {
  AgentId,
  ClientType,
  GatewayId,
  HostName,
  HostNameFromInput,
  IpAddress,
  KeyId,
  Name,
  Port,
  Revision,
  Target,
  Timestamp,
  TunnelId
} from "./ids.ts"

const moment = (description: string) => Timestamp.annotate({ description })

const times = {
  createdAt: moment("When it was created."),
  updatedAt: moment("When it last changed; coming online or going offline is no change.")
}

const apiKey = Schema.String.annotate({
  description: "The secret for `auth`. It is shown this once: only its hash is kept."
})

const connectionFields = {
  since: moment("When it authenticated."),
  address: stored("From where it connected."),
  level: stored("The protocol level that was agreed on."),
  clientVersion: Schema.NullOr(Schema.String).annotate({
    description: "What the client calls itself, if it has said so."
  })
}

/** Which client, where both kinds are told of. */
export const clientFields = {
  clientType: ClientType,
  clientId: Schema.String.annotate({ description: "The id of the agent or gateway." })
}

/** What a client has refused, and why. */
export const nackFields = {
  revision: Revision.annotate({ description: "The revision that it could not apply." }),
  code: Schema.String.annotate({ description: "The client's own word for the reason." }),
  message: Schema.String.annotate({ description: "The reason, for people, in the client's own words." }),
  tunnelId: Schema.optionalKey(Schema.String).annotate({
    description: "The tunnel that it is about, if it is about one."
  })
}

/** How far a client's view has come. */
const progress = {
  sentRevision: Schema.NullOr(Revision).annotate({
    description: "Up to which revision it was sent everything; null while it is not connected."
  }),
  appliedRevision: Schema.NullOr(Revision).annotate({
    description:
      "Up to which revision it says that everything is in force; null while it is not connected, or when it does not say."
  }),
  lastNack: Schema.NullOr(Schema.Struct({ ...nackFields, at: moment("When it said so.") })).annotate({
    description: "What it has refused last and has not applied since; null if there is nothing."
  })
}

const Session = Schema.NullOr(Schema.Struct(connectionFields)).annotate({
  description: "The open connection, if there is one."
})

/** PostgreSQL's text cannot hold NUL, so no row has such an id: it is refused here instead of asked for. */
export const withoutNul = Schema.isPattern(/^[^\0]*$/u, { message: "no id has a NUL character" })

/** The ids in paths and bodies, told apart from rows: here they come from outside. */
export const GivenAgentId = AgentId.check(withoutNul)
export const GivenGatewayId = GatewayId.check(withoutNul)
export const GivenTunnelId = TunnelId.check(withoutNul)
export const GivenKeyId = KeyId.check(withoutNul)

const presence = {
  status: Schema.Literals(["online", "offline"]).annotate({ description: "Whether it is connected." }),
  lastSeenAt: Schema.NullOr(Timestamp).annotate({ description: "When it was last heard of, to within a few seconds." }),
  session: Session,
  ...progress
}

export const Agent = Schema.Struct({
  id: AgentId,
  name: stored("Its name."),
  virtualIp: stored("Its address inside the network."),
  subnet: stored("Its /24 of the network, in CIDR notation."),
  wireguardPublicKey: stored("Its WireGuard public key in base64."),
  ...presence,
  ...times
}).annotate({ identifier: "Agent", description: "A client beside a service, behind NAT." })
export type Agent = typeof Agent.Type

export const NewAgent = Schema.Struct({ name: Name }).annotate({ identifier: "NewAgent" })
export type NewAgent = typeof NewAgent.Type

export const AgentPatch = Schema.Struct({ name: Schema.optionalKey(Name) }).annotate({ identifier: "AgentPatch" })
export type AgentPatch = typeof AgentPatch.Type

export const CreatedAgent = Schema.Struct({ ...Agent.fields, apiKey })

const publicIp = Schema.NullOr(IpAddress).annotate({ description: "Where agents reach it; null until it is known." })
const listenPort = Port.annotate({ description: "Its WireGuard port (UDP); 51820 unless given." })

/** More would make each of its changes costly to tell. */
const mostInScope = 1_000

const scopeText =
  "The tunnels that it serves: of these agents, and with these domains (`*.example.com` is one label below " +
  "example.com). It sees nothing else: no other agent, tunnel or certificate. Null when it serves all."

export const Gateway = Schema.Struct({
  id: GatewayId,
  serves: Schema.NullOr(Schema.Struct({ agents: Schema.Array(AgentId), domains: Schema.Array(HostName) })).annotate({
    description: scopeText
  }),
  name: stored("Its name."),
  publicIp: Schema.NullOr(Schema.String).annotate({ description: "Where agents reach it; null until it is known." }),
  listenPort,
  wireguardPublicKey: stored("Its WireGuard public key in base64."),
  ...presence,
  ...times
}).annotate({ identifier: "Gateway", description: "A client on a public address, which takes the traffic." })
export type Gateway = typeof Gateway.Type

/** A scope that names nothing serves nothing. */
const GivenScope = Schema.Struct({
  agents: Schema.optionalKey(Schema.Array(GivenAgentId)),
  domains: Schema.optionalKey(Schema.Array(HostNameFromInput))
}).check(Schema.makeFilter(
  ({ agents = [], domains = [] }) =>
    agents.length + domains.length <= mostInScope || `expected at most ${mostInScope} agents and domains together`
))
export type GivenScope = typeof GivenScope.Type

const optionalGatewayFields = {
  serves: Schema.optionalKey(Schema.NullOr(GivenScope)).annotate({ description: scopeText }),
  publicIp: Schema.optionalKey(publicIp),
  listenPort: Schema.optionalKey(listenPort)
}

export const NewGateway = Schema.Struct({ name: Name, ...optionalGatewayFields }).annotate({ identifier: "NewGateway" })
export type NewGateway = typeof NewGateway.Type

export const GatewayPatch = Schema.Struct({ name: Schema.optionalKey(Name), ...optionalGatewayFields }).annotate({
  identifier: "GatewayPatch"
})
export type GatewayPatch = typeof GatewayPatch.Type

export const CreatedGateway = Schema.Struct({ ...Gateway.fields, apiKey })

export const Tunnel = Schema.Struct({
  id: TunnelId,
  agentId: AgentId,
  ...tunnelFields,
  revision: Revision.annotate({ description: "The number of the change that made it what it is." }),
  reported: Schema.NullOr(Schema.Struct({
    status: stored("In the agent's own words."),
    at: moment("Since when it says so.")
  })).annotate({ description: "What its agent last said of it in `status`; null before it said anything." }),
  ...times
}).annotate({ identifier: "Tunnel", description: "A public domain and the service behind an agent that it leads to." })
export type Tunnel = typeof Tunnel.Type

export const NewTunnel = Schema.Struct({
  agentId: GivenAgentId,
  domain: HostNameFromInput,
  target: Target,
  enabled: Schema.optionalKey(Schema.Boolean).annotate({ description: "True unless given." })
}).annotate({ identifier: "NewTunnel" })
export type NewTunnel = typeof NewTunnel.Type

export const TunnelPatch = Schema.Struct({
  agentId: Schema.optionalKey(GivenAgentId).annotate({ description: "Moves the tunnel to another agent." }),
  domain: Schema.optionalKey(HostNameFromInput),
  target: Schema.optionalKey(Target),
  enabled: Schema.optionalKey(Schema.Boolean)
}).annotate({ identifier: "TunnelPatch" })
export type TunnelPatch = typeof TunnelPatch.Type

export const Certificate = Schema.Struct({
  domain: stored("The host name that it is for."),
  certificate: stored("PEM (RFC 7468): the certificate, then its chain."),
  expiresAt: moment("When it ends."),
  ...times
}).annotate({
  identifier: "Certificate",
  description: "What gateways serve for a domain. The private key is never shown."
})
export type Certificate = typeof Certificate.Type

export const CertificatePut = Schema.Struct({
  ...pemFields,
  expiresAt: Schema.optionalKey(Timestamp).annotate({
    description: "Read from the certificate; one that is given must agree with it."
  })
}).annotate({ identifier: "CertificatePut" })
export type CertificatePut = typeof CertificatePut.Type

export const Key = Schema.Struct({
  id: KeyId,
  createdAt: times.createdAt,
  lastUsedAt: Schema.NullOr(Timestamp).annotate({
    description: "When it last let a connection in; null if it never did."
  })
}).annotate({
  identifier: "Key",
  description: "A live API key of an agent or gateway, without its secret."
})
export type Key = typeof Key.Type

export const CreatedKey = Schema.Struct({ id: KeyId, apiKey })

export const ConnectedClient = Schema.Struct({
  ...clientFields,
  name: stored("Its name."),
  node: Schema.NullOr(Schema.String).annotate({
    description: "The name of the node that holds the connection; null for a node of 0.2.0."
  }),
  ...connectionFields,
  lastSeenAt: presence.lastSeenAt,
  ...progress
}).annotate({ identifier: "ConnectedClient", description: "An agent or gateway that is connected, to whichever node." })
export type ConnectedClient = typeof ConnectedClient.Type

/** A place in a list that is ordered by age: the last row that was shown. */
export interface Place {
  /** Microseconds since 1970: what PostgreSQL's timestamps resolve. */
  readonly micros: number
  readonly id: string
}

const Place = Schema.Struct({ micros: Schema.Int, id: Schema.String })

/** `<micros>.<id>`: what a number holds exactly, and lasts for 200 years; no id in a row has a NUL. */
const placePattern = /^(-?[1-8]?\d{1,15})\.([^\0]{1,256})$/u

/** A place in base64url. */
export const Cursor: Schema.Codec<Place, string> = Schema.String.annotate({
  description: "Opaque: the `nextCursor` of the page before."
}).pipe(
  Schema.decodeTo(
    Schema.StringFromBase64Url.check(Schema.isPattern(placePattern, { message: "expected a `nextCursor`" }))
  ),
  Schema.decodeTo(Place, {
    decode: SchemaGetter.transform((text: string) => {
      const [, micros, id = ""] = placePattern.exec(text) ?? []
      return { micros: Number(micros), id }
    }),
    encode: SchemaGetter.transform(({ micros, id }: Place) => `${micros}.${id}`)
  })
)

export const defaultLimit = 100

export const Limit = Schema.String.check(Schema.isPattern(/^\d{1,4}$/u, { message: "expected a whole number" }))
  .annotate({
    description: "At most so many items: 1 to 1000; 100 unless given."
  }).pipe(
    Schema.decodeTo(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1_000 })), {
      decode: SchemaGetter.transform(Number),
      encode: SchemaGetter.transform(String)
    })
  )

export interface PageRequest {
  readonly limit: number
  readonly after: Place | undefined
}

export interface Page<A> {
  readonly items: ReadonlyArray<A>
  /** Null when nothing follows. */
  readonly nextCursor: Place | null
  readonly leftOut?: ReadonlyArray<typeof LeftOut.Type>
}

/** A row that is there and cannot be read, by name. */
export const LeftOut = Schema.Struct({
  entityType: Schema.String,
  entityId: Schema.String,
  reason: Schema.String
})

export const pageOf = <S extends Schema.Constraint>(item: S) =>
  Schema.Struct({
    items: Schema.Array(item),
    nextCursor: Schema.NullOr(Cursor),
    leftOut: Schema.optionalKey(Schema.Array(LeftOut)).annotate({
      description:
        "Rows of this page that another application has written in a way that cannot be read; absent if there are none."
    })
  })
