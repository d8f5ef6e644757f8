/** The `status` message of `control.v1`, which agents and gateways send. */
import { Schema } from "effect"
import { message } from "./envelope.ts"
import { Revision, Timestamp } from "./ids.ts"

const bytes = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)).annotate({ examples: [1_480] })

export const TunnelReportV1 = Schema.Struct({
  id: Schema.optionalKey(Schema.String.check(Schema.isBetweenLength(1, 128))).annotate({
    description: "Id of the tunnel."
  }),
  domain: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(253))).annotate({
    description: "Domain of the tunnel. Needed only without `id`, which takes precedence."
  }),
  status: Schema.String.check(Schema.isMaxLength(64)).annotate({
    description:
      "State of the tunnel. Agents: `active`, `target-unreachable` or `starting`. Gateways: `serving`, `agent-unreachable`, `target-unreachable`, `no-certificate`, `port-in-use` or `starting`. Operators see any other text as it is."
  }),
  detail: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(256))).annotate({
    description: "Reason for operators."
  })
}).check(
  Schema.makeFilter(({ domain, id }) => id !== undefined || domain !== undefined || "expected an id or a domain")
)
export type TunnelReportV1 = typeof TunnelReportV1.Type

/** Facts about a WireGuard peer, as the client and the API report them. */
export const peerFields = {
  lastHandshakeAt: Schema.NullOr(Timestamp).annotate({
    description: "Time of the last WireGuard handshake; null before the first one."
  }),
  receivedBytes: bytes.annotate({
    description: "Bytes received from the peer since the interface was made.",
    examples: [1_480]
  }),
  sentBytes: bytes.annotate({ description: "Bytes sent to the peer since the interface was made.", examples: [2_960] }),
  endpoint: Schema.NullOr(
    Schema.String.check(Schema.isMaxLength(128)).annotate({ examples: ["198.51.100.4:40112"] })
  ).annotate({
    description: "Address and UDP port of the peer; null if unknown."
  })
}

export const PeerReport = Schema.Struct({
  id: Schema.String.check(Schema.isBetweenLength(1, 128)).annotate({
    description: "Id of the gateway, in a report of an agent; id of the agent, in a report of a gateway."
  }),
  ...peerFields
})
export type PeerReport = typeof PeerReport.Type

export const StatusV1 = message(
  "status",
  "Status report about tunnels and WireGuard peers. Send all known states after connecting, and each change afterwards; send the peers at most every 10 seconds. A report about a tunnel stays valid until the next report about it, until the connection ends, and until the tunnel changes in a way that matters to its traffic. Control ignores reports about tunnels that are not in the client's view.",
  {
    tunnels: Schema.Array(TunnelReportV1).check(Schema.isMaxLength(1_000)).annotate({
      description: "One report for each tunnel. More than 1,000 tunnels need several messages."
    }),
    peers: Schema.optionalKey(Schema.Array(PeerReport).check(Schema.isMaxLength(1_000))).annotate({
      description: "One entry for each WireGuard peer. More than 1,000 peers need several messages."
    }),
    revision: Schema.optionalKey(Revision).annotate({
      description:
        "Revision that the client had applied when it determined the states. A report about a tunnel that has changed since is ignored."
    })
  },
  {
    tunnels: [{ id: "5f0c", status: "serving" }],
    peers: [{
      id: "9b1d",
      lastHandshakeAt: "2026-01-31T12:00:00.000Z",
      receivedBytes: 1_480,
      sentBytes: 2_960,
      endpoint: "198.51.100.4:40112"
    }],
    revision: Revision.make(58)
  }
).annotate({ identifier: "status_v1" })
export type StatusReport = typeof StatusV1.Type["data"]
