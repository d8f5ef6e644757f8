/** Settings that are fine each by itself and cannot be used together. */
import { Duration, Option } from "effect"
import { isOpenInPlaintext } from "./addresses.ts"
import { durationInWords } from "./parse.ts"
import { definitions, type Plain } from "./definitions.ts"

type Values = { readonly [Key in keyof typeof definitions]: (typeof definitions)[Key]["fallback"] }

interface Conflict {
  readonly between: ReadonlyArray<Plain<unknown>>
  readonly problem: { readonly name: string; readonly given: string; readonly allowed: string }
}

export const conflicts = (values: Values): ReadonlyArray<Conflict> =>
  [hurriedHeartbeat(values), samePort(values), halfAPair(values), plaintext(values), headersOfNobody(values)].flatMap((
    conflict
  ) => conflict === undefined ? [] : [conflict])

function hurriedHeartbeat(values: Values): Conflict | undefined {
  const { heartbeatInterval, heartbeatTimeout } = definitions
  if (!Duration.isGreaterThan(values.heartbeatInterval, values.heartbeatTimeout)) return undefined
  return {
    between: [heartbeatInterval, heartbeatTimeout],
    problem: {
      name: heartbeatInterval.name,
      given: durationInWords(values.heartbeatInterval),
      allowed: `at most ${heartbeatTimeout.name}, which is ${durationInWords(values.heartbeatTimeout)}`
    }
  }
}

function samePort(values: Values): Conflict | undefined {
  if (values.wsPort === 0 || values.wsPort !== values.apiPort || !overlap(values.wsHost, values.apiHost))
    return undefined
  return {
    between: [definitions.wsHost, definitions.wsPort, definitions.apiHost, definitions.apiPort],
    problem: {
      name: definitions.apiPort.name,
      given: `${values.apiPort}`,
      allowed: `another port than ${definitions.wsPort.name}, since both listen on the same address`
    }
  }
}

const overlap = (one: string, other: string): boolean =>
  one === other || [one, other].some((host) => host === "0.0.0.0" || host === "::")

function halfAPair(values: Values): Conflict | undefined {
  const pair = [definitions.tlsCertificate, definitions.tlsPrivateKey] as const
  const paths = [values.tlsCertificate, values.tlsPrivateKey]
  const [given, missing] = Option.isSome(values.tlsCertificate) ? pair : pair.toReversed()
  const path = Option.firstSomeOf(paths)
  if (given === undefined || missing === undefined || Option.isNone(path) || paths.every(Option.isSome))
    return undefined
  return {
    between: pair,
    problem: { name: given.name, given: path.value, allowed: `left out, or set together with ${missing.name}` }
  }
}

/** Where nothing could ever come in encrypted, nothing could ever be let in. */
function plaintext(values: Values): Conflict | undefined {
  const isOpen = [values.wsHost, values.apiHost].some((host) => isOpenInPlaintext(host, values))
  if (!values.requireTls || !isOpen) return undefined
  const { apiHost, requireTls, tlsCertificate, tlsPrivateKey, trustedProxies, wsHost } = definitions
  return {
    between: [requireTls, wsHost, apiHost, tlsCertificate, tlsPrivateKey, trustedProxies],
    problem: {
      name: requireTls.name,
      given: "true",
      allowed: `false, unless ${tlsCertificate.name} and ${tlsPrivateKey.name}, or ${trustedProxies.name}, are set: ` +
        "plaintext would be listened for beyond this machine"
    }
  }
}

/** Where no proxy is trusted, no header would ever be believed. */
function headersOfNobody(values: Values): Conflict | undefined {
  const { proxyProtocol, trustedProxies } = definitions
  if (values.proxyProtocol === "off" || values.trustedProxies.length > 0) return undefined
  return {
    between: [proxyProtocol, trustedProxies],
    problem: {
      name: proxyProtocol.name,
      given: values.proxyProtocol,
      allowed: `off, unless ${trustedProxies.name} has the addresses from which the proxies connect`
    }
  }
}
