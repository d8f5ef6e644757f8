/** Options that the agent and the gateway program share. */
import { logLevels } from "./log.ts"
import { OptionProblem, optionValues } from "./options.ts"

/** `program` is part of the names of variables: `AGENT` or `GATEWAY`. */
export const commonOptions = <const Program extends "AGENT" | "GATEWAY">(program: Program) =>
  ({
    url: {
      name: "url",
      variable: "CONTROL_URL",
      metavar: "URL",
      description: "Address at which Control serves agents and gateways, for example `wss://control.example.com`",
      default: undefined,
      isRequired: true,
      parse: parseUrl
    },
    apiKey: {
      name: "api-key",
      variable: "CONTROL_API_KEY",
      metavar: undefined,
      description: "API key of this client",
      default: undefined,
      isRequired: true,
      isSecret: true,
      parse: parseKey
    },
    stateDir: {
      name: "state-dir",
      variable: `CONTROL_${program}_STATE_DIR`,
      metavar: "DIRECTORY",
      description:
        "Directory for the last view and the WireGuard key, with which the program serves while Control is away; by default below `~/.local/state/control`",
      default: undefined,
      parse: optionValues.text
    },
    metrics: {
      name: "metrics",
      variable: `CONTROL_${program}_METRICS`,
      metavar: "HOST:PORT",
      description: "Serve Prometheus metrics, `/healthz` and `/readyz` there, for example `127.0.0.1:9100`",
      default: undefined,
      parse: optionValues.hostAndPort
    },
    retryAuth: {
      name: "retry-auth",
      variable: `CONTROL_${program}_RETRY_AUTH`,
      metavar: undefined,
      description: "Go on trying after a rejected API key, in place of ending with exit code 1",
      default: "false",
      parse: parseFlag
    },
    once: {
      name: "once",
      variable: `CONTROL_${program}_ONCE`,
      metavar: undefined,
      description: "End with exit code 0 when everything is applied, for scripts",
      default: "false",
      parse: parseFlag
    },
    ...logOptions(program)
  }) as const

const logOptions = <const Program extends "AGENT" | "GATEWAY">(program: Program) =>
  ({
    logLevel: {
      name: "log-level",
      variable: `CONTROL_${program}_LOG_LEVEL`,
      metavar: "LEVEL",
      description: "Least important level of the log on standard error: error, warn, info or debug",
      default: "info",
      parse: optionValues.choice(logLevels)
    },
    logFormat: {
      name: "log-format",
      variable: `CONTROL_${program}_LOG_FORMAT`,
      metavar: "FORMAT",
      description: "`pretty` for people or `json`, one object a line; by default `pretty` on a terminal",
      default: undefined,
      parse: optionValues.choice(["pretty", "json"])
    }
  }) as const

function parseUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^(?:ws|http)s?:$/u.test(url.protocol)) {
    throw new OptionProblem("a URL such as wss://control.example.com or ws://192.0.2.1:3001")
  }
  return text
}

function parseKey(text: string): string {
  if (!/^[\x21-\x7e]+$/u.test(text)) throw new OptionProblem("an API key without spaces, such as ctl_agt_…")
  return text
}

/** Not called, because `readOptions` parses switches; it gives the option its type. */
function parseFlag(text: string): boolean {
  return text === "true"
}
