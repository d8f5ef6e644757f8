/** Why one of the two ports that the settings name cannot be had. */
import { Schema } from "effect"

const edges = {
  ws: { who: "agents and gateways", settings: "CONTROL_WS_HOST, CONTROL_WS_PORT" },
  api: { who: "operators", settings: "CONTROL_API_HOST, CONTROL_API_PORT" }
}

/** The port cannot be listened on. */
export class PortUnavailable extends Schema.TaggedError<PortUnavailable>()("PortUnavailable", {
  edge: Schema.Literals(["ws", "api"]),
  host: Schema.String,
  port: Schema.Int,
  /** The system's code, such as `EADDRINUSE`, or a sentence. */
  reason: Schema.String
}) {
  override get message(): string {
    const why = this.reason === "EADDRINUSE" ? "it is in use by another process" : this.reason
    const { settings, who } = edges[this.edge]
    return `cannot listen for ${who} on ${this.host}:${this.port}: ${why} (${settings})`
  }
}
