/** Tunnels of the HTTP API. */
import { Schema } from "effect"
import { AgentId, ClientName, GatewayId, HostNameFromInput, Port, Revision, Target, TunnelId } from "./ids.ts"
import { AgentIdInput, AgentReference, clientFields, rowTimes, timestampField } from "./resources.ts"
import { ProxyProtocol, storedText, TargetTls, tunnelFields, tunnelFieldsV1, TunnelProtocol } from "./sharedFields.ts"
import { tunnelChecks } from "./tunnelRules.ts"

export const Tunnel = Schema.Struct({
  id: TunnelId,
  agentId: AgentId,
  ...tunnelFields,
  ...tunnelFieldsV1,
  domain: Schema.NullOr(Schema.String).annotate({
    description: "Public host name; null for a `tcp` or `udp` tunnel without a DNS name."
  }),
  port: Schema.NullOr(Schema.Int.annotate({ examples: [20_000] })).annotate({
    description: "TCP or UDP port at the agent's address in the network, which Control has given."
  }),
  target: Target,
  revision: Revision.annotate({ description: "Revision of the tunnel's last change." }),
  reported: Schema.NullOr(Schema.Struct({
    status: storedText("State in the agent's own words, for example `active` or `target-unreachable`."),
    detail: Schema.NullOr(Schema.String).annotate({ description: "Reason; null if the agent gave none." }),
    at: timestampField("Time since which the connection reports this state.")
  })).annotate({
    description:
      "Last `status` of the agent's open connection about this tunnel. Null before the first one, while the agent is offline, and after the agent, domain or target has changed."
  }),
  serving: Schema.Array(Schema.Struct({
    gatewayId: GatewayId,
    gatewayName: storedText("Display name of the gateway.").annotate({ examples: ["edge-1"] }),
    status: storedText("`serving`, or the gateway's reason why it does not serve the tunnel."),
    detail: Schema.NullOr(Schema.String).annotate({ description: "Reason; null if the gateway gave none." }),
    since: timestampField("Time since which the connection reports this state.")
  })).annotate({
    description:
      "Reports of online gateways about this tunnel, by name. A report ends with the gateway's connection, and when the tunnel changes in a way that matters to its traffic."
  }),
  ...rowTimes
}).annotate({
  identifier: "Tunnel",
  description: "Public domain and the service behind an agent to which its traffic is forwarded."
})
export type Tunnel = typeof Tunnel.Type

/** The tunnel with the progress of its clients: wanted is the tunnel's own revision. */
export const TunnelDetails = Schema.Struct({
  ...Tunnel.fields,
  clients: Schema.Array(Schema.Struct({
    ...clientFields,
    clientName: storedText("Display name of the client.").annotate({ examples: ["home"] }),
    status: Schema.Literals(["online", "offline"]).annotate({ description: "Whether the client is connected." }),
    wanted: Revision.annotate({ description: "Revision that the client has to apply: that of the tunnel." }),
    sent: Schema.NullOr(Revision).annotate({
      description: "Revision up to which the client was sent everything; null while it is offline."
    }),
    applied: Schema.NullOr(Revision).annotate({
      description:
        "Revision up to which the client has acknowledged everything; null while it is offline or if it never acknowledges."
    })
  })).annotate({ description: "The tunnel's agent, and the gateways that serve the tunnel." })
}).annotate({ identifier: "TunnelDetails" })
export type TunnelDetails = typeof TunnelDetails.Type

/** Fields that every request about a tunnel can have. */
const optionalTunnelFields = {
  enabled: Schema.optionalKey(Schema.Boolean).annotate({ description: "Default: true." }),
  name: Schema.optionalKey(Schema.NullOr(ClientName)).annotate({
    description: "Unique name. A `tcp` or `udp` tunnel needs one, because it is not found by its domain."
  }),
  listenPort: Schema.optionalKey(Schema.NullOr(Port)).annotate({
    description: "Public port at the gateways of a `tcp` or `udp` tunnel, unique among tunnels of the same transport."
  }),
  proxyProtocol: Schema.optionalKey(ProxyProtocol),
  tls: Schema.optionalKey(TargetTls).annotate({
    description:
      "For an `https://` target. Default: `verify`. A target with an IP address or localhost needs an explicit value."
  })
}

const newTunnelFields = {
  domain: Schema.optionalKey(Schema.NullOr(HostNameFromInput)).annotate({
    description: "Public host name. Required for `http` and `tls`; for `tcp` and `udp` it is the DNS name only."
  }),
  target: Target,
  protocol: Schema.optionalKey(TunnelProtocol).annotate({ description: "Default: `http`." }),
  ...optionalTunnelFields
}

/** A tunnel in the library API, which knows its agent by id. */
export const NewTunnel = Schema.Struct({ agentId: AgentIdInput, ...newTunnelFields }).check(...tunnelChecks)
export type NewTunnel = typeof NewTunnel.Type

export const NewTunnelRequest = Schema.Struct({ agentId: AgentReference, ...newTunnelFields }).check(...tunnelChecks)
  .annotate({ identifier: "NewTunnel" })

export const TunnelPatchRequest = Schema.Struct({
  agentId: Schema.optionalKey(AgentReference).annotate({
    description: "Name or id of the agent to which the tunnel is moved."
  }),
  domain: Schema.optionalKey(Schema.NullOr(HostNameFromInput)),
  target: Schema.optionalKey(Target),
  protocol: Schema.optionalKey(TunnelProtocol),
  ...optionalTunnelFields,
  enabled: Schema.optionalKey(Schema.Boolean)
}).annotate({ identifier: "TunnelPatch" })
export type TunnelPatch = Omit<typeof TunnelPatchRequest.Type, "agentId"> & { readonly agentId?: AgentId }
