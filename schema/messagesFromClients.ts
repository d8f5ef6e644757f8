/** Messages that both agents and gateways send. */
import { Effect, Option, Schema } from "effect"
import { message } from "./envelope.ts"
import { Revision, Timeline, TunnelId, WireguardKey } from "./ids.ts"

/** Any text that could be a key. Older installations have keys of other shapes, so only the hash decides. */
export const ApiKey = Schema.String.check(Schema.isBetweenLength(1, 512)).annotate({
  identifier: "ApiKey",
  description: "The client's secret, as returned by the API on creation: `ctl_agt_…` or `ctl_gw_…`."
})

export const Heartbeat = message(
  "heartbeat",
  "Sign of life. Send one every third of the heartbeat timeout (20 seconds by default).",
  {
    timestamp: Schema.Finite.annotate({
      description: "The client's clock in milliseconds since 1970; informational only."
    })
  },
  { timestamp: 1_769_860_800_000 }
)

/** Position up to which a client has applied its view. */
export const Resume = Schema.Struct({
  timeline: Timeline.annotate({ description: "Timeline of the revision." }),
  revision: Revision.annotate({ description: "Revision up to which the client has applied everything." })
}).annotate({
  description:
    "Position to resume from. Control then sends only the missed changes, if it still knows them. An invalid value is ignored."
})
export type Resume = typeof Resume.Type

/** Fields that `control.v1` adds to `auth`. */
export const authFieldsV1 = {
  wireguardPublicKey: Schema.optionalKey(WireguardKey).annotate({
    description:
      "The client's own WireGuard public key. Control then stores no private key of this client and sends none."
  }),
  resume: Schema.optionalKey(Resume.pipe(Schema.catchDecoding(() => Effect.succeed(Option.none())))),
  clientVersion: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(64))).annotate({
    description: "Name and version of the client software, shown to operators."
  })
}

export const Ack = message(
  "ack",
  "Acknowledges everything up to this revision as applied. Acks are cumulative, so one `ack` may cover several revisions.",
  {
    revision: Revision.annotate({
      description: "Applied revision; at most the newest one received on this connection."
    })
  },
  { revision: Revision.make(58) }
)

export const Nack = message(
  "nack",
  "Rejects a revision that could not be applied. The client keeps its previous configuration, and Control does not send the revision again. Operators see the latest `nack` until the client acknowledges this or a later revision, or connects again.",
  {
    revision: Revision.annotate({
      description: "Rejected revision; above the acknowledged one, at most the newest one received on this connection."
    }),
    code: Schema.String.check(Schema.isBetweenLength(1, 64)).annotate({
      description: "Reason for programs, in the client's own vocabulary, for example `port_in_use`."
    }),
    message: Schema.String.check(Schema.isMaxLength(500)).annotate({ description: "Reason for operators." }),
    tunnelId: Schema.optionalKey(TunnelId).annotate({ description: "Tunnel that caused the failure, if there is one." })
  },
  {
    revision: Revision.make(58),
    code: "port_in_use",
    message: "localhost:8080 is not there",
    tunnelId: TunnelId.make("5f0c")
  }
)

/** A `nack` with the time of its receipt (RFC 3339). */
export type RecordedNack = typeof Nack.Type["data"] & { readonly at: string }

export const Resync = message(
  "resync",
  "Requests a `config`, because the client has missed something. At most once every 5 seconds.",
  {
    reason: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(200))).annotate({
      description: "Reason for people, for example `gap`."
    })
  },
  { reason: "gap" }
)
