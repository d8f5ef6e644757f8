/** Messages that agents send. */
import { Schema } from "effect"
import { Ack, ApiKey, authFieldsV1, Heartbeat, Nack, Resync } from "./messagesFromClients.ts"
import { message } from "./envelope.ts"
import { Revision, Timeline } from "./ids.ts"
import { StatusV1 } from "./statusMessage.ts"

export const AgentAuth = message("auth", "Authentication. The first message on every connection.", { apiKey: ApiKey }, {
  apiKey: "ctl_agt_4hV0s2Qp7LxT_EXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLE"
}).annotate({ identifier: "auth_agent" })

export const TunnelReport = Schema.Struct({
  domain: Schema.String.check(Schema.isMaxLength(253)).annotate({ description: "Domain of the tunnel." }),
  status: Schema.String.check(Schema.isMaxLength(64)).annotate({
    description: "State in the agent's own words, for example `active` or `error`."
  })
})
export type TunnelReport = typeof TunnelReport.Type

export const Status = message(
  "status",
  "Tunnel status report. Send all known states after connecting, and each change afterwards. A report stays valid until the next report for its domain, until the connection ends, and until the tunnel gets another agent, domain or target. More than 1,000 tunnels need several messages.",
  {
    tunnels: Schema.Array(TunnelReport).check(Schema.isMaxLength(1_000)).annotate({
      description: "One report for each tunnel."
    })
  },
  { tunnels: [{ domain: "app.example.com", status: "active" }] }
)

export const AgentAuthV1 = message(
  "auth",
  "Authentication, with the position to resume from. The first message on every connection.",
  { ...AgentAuth.fields.data.fields, ...authFieldsV1 },
  {
    apiKey: "ctl_agt_4hV0s2Qp7LxT_EXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLE",
    resume: { timeline: Timeline.make("6b0c2a52-9f7e-4d57-8a54-3f6a4b1c7d10"), revision: Revision.make(57) },
    clientVersion: "my-agent/1.0.0"
  }
).annotate({ identifier: "auth_agent_v1" })

export const AgentMessage = Schema.Union([AgentAuth, Heartbeat, Status])
export type AgentMessage = typeof AgentMessage.Type

export const AgentMessageV1 = Schema.Union([AgentAuthV1, Heartbeat, StatusV1, Ack, Nack, Resync])
export type AgentMessageV1 = typeof AgentMessageV1.Type
