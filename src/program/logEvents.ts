/** Writes the events of a client to a program's log, as sentences for operators. */
import type { ClientEvent } from "#sdk/clientEvents.ts"

type Fields = Readonly<Record<string, string | number | boolean | undefined>>
type Write = (message: string, fields?: Fields) => void

/** The methods of a log that are used here. */
export interface EventLog {
  readonly warn: Write
  readonly info: Write
  readonly debug: Write
}

export const logEvent = (log: EventLog, event: ClientEvent): void => {
  switch (event.type) {
    case "connected":
      return log.debug("connected to Control; authenticating")
    case "ready":
      return log.info("authenticated by Control", { resumed: event.resumed, session: event.sessionId })
    case "applied":
      return log.info(
        event.change.source === "disk" ? "serving the view of the state directory" : "applied the view",
        { revision: event.revision, source: event.change.source }
      )
    case "nacked":
      return log.warn(`cannot apply the view: ${event.message}`, { revision: event.revision, code: event.code })
    case "error":
      return log.warn(`error: ${event.message}`, { code: event.code })
    case "disconnected":
      return log.warn(`no connection to Control: ${event.reason}`, {
        problem: event.problem,
        code: event.code,
        retryInSeconds: event.retryInMs === null ? undefined : Math.ceil(event.retryInMs / 1_000)
      })
    case "stopped":
      return log.debug(`stopped: ${event.reason}`, { code: event.code })
  }
}

/** A sentence about a stop that the application did not ask for: the cause and the next step. */
export const stopProblem = ({ code, reason }: { readonly code: number; readonly reason: string }): string => {
  switch (code) {
    case 4401:
      return "Control rejects the API key; create a new one with `control key create` and set CONTROL_API_KEY"
    case 4403:
      return "the API key belongs to another type of client; agents and gateways have different keys"
    case 4409:
      return "another program has connected with the same API key; each machine needs its own agent or gateway"
    case 4410:
      return "this client was deleted at Control; create a new one"
    default:
      return `Control ended the connection for good: ${reason} (${code})`
  }
}
