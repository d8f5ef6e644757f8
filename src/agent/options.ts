/** Options of `control agent run`. */
import { type Options, type OptionValues, optionValues } from "#program/options.ts"
import { parseAllowRule } from "./targetRules.ts"
import { commonOptions } from "#program/commonOptions.ts"

export const agentOptions = {
  ...commonOptions("AGENT"),
  device: {
    name: "device",
    variable: "CONTROL_AGENT_DEVICE",
    metavar: "KIND",
    description: "WireGuard device: `userspace` needs no privileges, `kernel` needs root, `auto` is `userspace`",
    default: "auto",
    parse: optionValues.choice(["auto", "userspace", "kernel"])
  },
  allow: {
    name: "allow",
    variable: "CONTROL_AGENT_ALLOW",
    metavar: "CIDR:PORTS",
    description:
      "Limit targets to these addresses and ports, for example `127.0.0.0/8:8000-8999`; can be repeated. Without it every configured target is dialed",
    default: "",
    isList: true,
    parse: (text: string) => optionValues.list(text).map(parseAllowRule)
  },
  maxConnections: {
    name: "max-connections",
    variable: "CONTROL_AGENT_MAX_CONNECTIONS",
    metavar: "NUMBER",
    description: "Connections through all tunnels at the same time; more are rejected",
    default: "4096",
    parse: optionValues.count
  },
  drainTimeout: {
    name: "drain-timeout",
    variable: "CONTROL_AGENT_DRAIN_TIMEOUT",
    metavar: "DURATION",
    description: "Time for running connections to end after SIGTERM",
    default: "5s",
    parse: optionValues.seconds
  }
} satisfies Options

export type AgentOptionValues = OptionValues<typeof agentOptions>
