/** Opens connections to the services behind an agent. */
import { lookup } from "node:dns"
import { connect, isIP, type LookupFunction, Socket } from "node:net"
import { type AllowRule, isAllowed } from "./targetRules.ts"

/** Host without brackets, and port. */
export interface Target {
  readonly host: string
  readonly port: number
}

/** Parses `host:port` or `http(s)://host:port`, which Control has checked; undefined for any other text. */
export const parseTarget = (text: string): Target | undefined => {
  const [, bracketed, plain, port] = /^(?:https?:\/\/)?(?:\[([^\]]+)\]|([^:/[\]]+)):(\d{1,5})$/u.exec(text) ?? []
  const host = bracketed ?? plain
  return host === undefined ? undefined : { host, port: Number(port) }
}

/** Dials targets within the rules of `--allow`. */
export class Dialer {
  readonly #rules: ReadonlyArray<AllowRule>

  constructor(rules: ReadonlyArray<AllowRule>) {
    this.#rules = rules
  }

  /**
   * Opens a TCP connection. Fails by the socket's `error` event; an address outside the rules fails with `ENOTALLOWED`. A name is
   * resolved for each connection, so that a service can move.
   */
  dial({ host, port }: Target): Socket {
    // Node calls a lookup for names only.
    const refusal = isIP(host) === 0 ? undefined : this.refusal(host, port)
    if (refusal !== undefined) return new Socket().destroy(refusal)
    return connect({
      host,
      port,
      allowHalfOpen: true,
      noDelay: true,
      autoSelectFamily: true,
      lookup: this.#lookup(port)
    })
  }

  /** The reason why an address must not be dialed; undefined if it may be. */
  refusal(address: string, port: number): NodeJS.ErrnoException | undefined {
    return isAllowed(this.#rules, address, port) ? undefined : notAllowed(address, port)
  }

  #lookup(port: number): LookupFunction {
    return (host, options, callback) => {
      const check = (
        error: NodeJS.ErrnoException | null,
        found: ReadonlyArray<{ address: string; family: number }>
      ) => {
        if (error !== null) return callback(error, "", 0)
        const allowed = found.filter(({ address }) => isAllowed(this.#rules, address, port))
        const first = allowed[0]
        if (first === undefined) return callback(notAllowed(host, port), "", 0)
        if (options.all === true) callback(null, [...allowed])
        else callback(null, first.address, first.family)
      }
      lookup(host, { ...options, all: true }, (error, found) => check(error, found ?? []))
    }
  }
}

const notAllowed = (host: string, port: number): NodeJS.ErrnoException =>
  Object.assign(new Error(`${host}:${port} is outside of --allow`), { code: "ENOTALLOWED" })

/** A short sentence about a failed connection to a target, without addresses that the operator does not know already. */
export const dialProblem = (error: NodeJS.ErrnoException): string =>
  dialProblems[error.code ?? ""] ?? error.code ?? "the connection failed"

const dialProblems: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused: no program listens on the target's port",
  ECONNRESET: "the target reset the connection",
  ETIMEDOUT: "the target does not answer",
  EHOSTUNREACH: "no route to the target",
  ENETUNREACH: "no route to the target's network",
  ENOTFOUND: "the target's name does not exist",
  EAI_AGAIN: "the target's name cannot be resolved now",
  ENOTALLOWED: "the target is outside of the agent's --allow",
  EMFILE: "the agent has too many open files"
}
