/** What agents and gateways both say. */
import { Effect, Option, Schema } from "effect"
import { message } from "./envelope.ts"
import { Revision, Timeline, TunnelId, WireguardKey } from "./ids.ts"

/** Any text that could be a key: older installations have keys of other shapes, so only the hash decides. */
export const ApiKey = Schema.String.check(Schema.isBetweenLength(1, 512)).annotate({
  identifier: "ApiKey",
  description: "The client's secret, as the API showed it once: `ctl_agt_…` or `ctl_gw_…`."
})

export const Heartbeat = message(
  "heartbeat",
  "I am alive. Send one every third of the heartbeat timeout (20 seconds by default).",
  {
    timestamp: Schema.Finite.annotate({
      description: "The client's clock in milliseconds since 1970; for information only, nothing is decided by it."
    })
  },
  { timestamp: 1_769_860_800_000 }
)

/** A client's place in the history of its view: up to where it has applied what it was told. */
export const Resume = Schema.Struct({
  timeline: Timeline.annotate({ description: "The timeline that the revision is of." }),
  revision: Revision.annotate({ description: "Everything up to it is in force at the client." })
}).annotate({
  description:
    "Where the client is: then only what it missed comes, if that can be told. Nonsense here counts as left out."
})
export type Resume = typeof Resume.Type

/** What `auth` may say more in `control.v1`. */
export const authFieldsV1 = {
  wireguardPublicKey: Schema.optionalKey(WireguardKey).annotate({
    description: "The client's own public key: then Control has no private key of it and sends none."
  }),
  resume: Schema.optionalKey(Resume.pipe(Schema.catchDecoding(() => Effect.succeed(Option.none())))),
  clientVersion: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(64))).annotate({
    description: "Name and version of the client's software, for operators."
  })
}

export const Ack = message(
  "ack",
  "Everything up to this revision is in force here. Cumulative: not every revision needs one of its own.",
  { revision: Revision.annotate({ description: "Up to where; at most the newest that came on this connection." }) },
  { revision: Revision.make(58) }
)

export const Nack = message(
  "nack",
  "This revision could not be applied; what was in force before stays so. It is not sent again. Operators see the latest `nack` until this revision or a later one is acknowledged, or until the client's next connection.",
  {
    revision: Revision.annotate({
      description: "Which one; above what was acknowledged, at most the newest that came on this connection."
    }),
    code: Schema.String.check(Schema.isBetweenLength(1, 64)).annotate({
      description: "For programs, in the client's own words."
    }),
    message: Schema.String.check(Schema.isMaxLength(500)).annotate({ description: "For the operators who see it." }),
    tunnelId: Schema.optionalKey(TunnelId).annotate({ description: "The tunnel that is at fault, if it is one." })
  },
  {
    revision: Revision.make(58),
    code: "port_in_use",
    message: "localhost:8080 is not there",
    tunnelId: TunnelId.make("5f0c")
  }
)

/** A `nack` and when it came (RFC 3339). */
export type NotedNack = typeof Nack.Type["data"] & { readonly at: string }

export const Resync = message(
  "resync",
  "Something is missing here: send me a `config`. Once every five seconds at most.",
  { reason: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(200))).annotate({ description: "For people." }) },
  { reason: "gap" }
)
