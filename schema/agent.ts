/** What agents say. */
import { Schema } from "effect"
import { ApiKey, Heartbeat } from "./client.ts"
import { message } from "./envelope.ts"

export const AgentAuth = message("auth", "Who I am. The first message on every connection.", { apiKey: ApiKey }, {
  apiKey: "ctl_agt_4hV0s2Qp7LxT_EXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLE"
}).annotate({ identifier: "auth_agent" })

export const TunnelReport = Schema.Struct({
  domain: Schema.String.check(Schema.isMaxLength(253)).annotate({ description: "The tunnel's domain." }),
  status: Schema.String.check(Schema.isMaxLength(64)).annotate({
    description: "In the agent's own words, such as `active` or `error`."
  })
})
export type TunnelReport = typeof TunnelReport.Type

export const Status = message(
  "status",
  "How my tunnels do: the whole list each time; a domain left out keeps its last report.",
  {
    tunnels: Schema.Array(TunnelReport).check(Schema.isMaxLength(1_000)).annotate({
      description: "One report a tunnel."
    })
  },
  { tunnels: [{ domain: "app.example.com", status: "active" }] }
)

export const AgentMessage = Schema.Union([AgentAuth, Heartbeat, Status])
export type AgentMessage = typeof AgentMessage.Type
