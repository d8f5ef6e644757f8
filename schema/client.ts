/** What agents and gateways both say. */
import { Schema } from "effect"
import { message } from "./envelope.ts"

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
