/** Error of a port that cannot be opened. */
import { formatHostPort } from "#server/Settings.ts"
import { Schema } from "effect"

const ports = {
  ws: { users: "agents and gateways", settings: "CONTROL_WS_HOST and CONTROL_WS_PORT" },
  api: { users: "operators", settings: "CONTROL_API_HOST and CONTROL_API_PORT" }
}

/** The operating system does not let Control listen on the port. */
export class PortUnavailable extends Schema.TaggedError<PortUnavailable>()("PortUnavailable", {
  portName: Schema.Literals(["ws", "api"]),
  host: Schema.String,
  port: Schema.Int,
  /** Error code of the system, such as `EADDRINUSE`, or a sentence. */
  reason: Schema.String
}) {
  override get message(): string {
    const why = this.reason === "EADDRINUSE" ? "another process uses it" : this.reason
    const { settings, users } = ports[this.portName]
    return `cannot listen for ${users} on ${formatHostPort(this.host, this.port)}: ${why}; change ${settings}`
  }
}
