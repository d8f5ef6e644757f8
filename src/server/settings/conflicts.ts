/** Conflicts between settings that are valid on their own. */
import { Duration, Option } from "effect"
import { acceptsRemotePlaintext } from "./addresses.ts"
import { formatDuration } from "./parse.ts"
import { definitions, type PlainSetting } from "./definitions.ts"

type Values = { readonly [Key in keyof typeof definitions]: (typeof definitions)[Key]["fallback"] }

interface Conflict {
  readonly between: ReadonlyArray<PlainSetting<unknown>>
  readonly problem: { readonly name: string; readonly given: string; readonly allowed: string }
}

export const conflicts = (values: Values): ReadonlyArray<Conflict> =>
  [
    heartbeatIntervalAboveTimeout(values),
    sharedPort(values),
    incompleteTlsPair(values),
    plaintextWithRequiredTls(values),
    proxyProtocolWithoutProxies(values)
  ].flatMap((
    conflict
  ) => conflict === undefined ? [] : [conflict])

function heartbeatIntervalAboveTimeout(values: Values): Conflict | undefined {
  const { heartbeatInterval, heartbeatTimeout } = definitions
  if (!Duration.isGreaterThan(values.heartbeatInterval, values.heartbeatTimeout)) return undefined
  return {
    between: [heartbeatInterval, heartbeatTimeout],
    problem: {
      name: heartbeatInterval.name,
      given: formatDuration(values.heartbeatInterval),
      allowed: `at most ${heartbeatTimeout.name}, which is ${formatDuration(values.heartbeatTimeout)}`
    }
  }
}

function sharedPort(values: Values): Conflict | undefined {
  if (values.wsPort === 0 || values.wsPort !== values.apiPort || !listenOnSameAddress(values.wsHost, values.apiHost))
    return undefined
  return {
    between: [definitions.wsHost, definitions.wsPort, definitions.apiHost, definitions.apiPort],
    problem: {
      name: definitions.apiPort.name,
      given: `${values.apiPort}`,
      allowed: `different from ${definitions.wsPort.name}, because both ports use the same address`
    }
  }
}

const listenOnSameAddress = (one: string, other: string): boolean =>
  one === other || [one, other].some((host) => host === "0.0.0.0" || host === "::")

function incompleteTlsPair(values: Values): Conflict | undefined {
  const pair = [definitions.tlsCertificate, definitions.tlsPrivateKey] as const
  const paths = [values.tlsCertificate, values.tlsPrivateKey]
  const [given, missing] = Option.isSome(values.tlsCertificate) ? pair : pair.toReversed()
  const path = Option.firstSomeOf(paths)
  if (given === undefined || missing === undefined || Option.isNone(path) || paths.every(Option.isSome))
    return undefined
  return {
    between: pair,
    problem: { name: given.name, given: path.value, allowed: `unset, or set together with ${missing.name}` }
  }
}

/** Without a certificate and without a trusted proxy, every connection would be rejected. */
function plaintextWithRequiredTls(values: Values): Conflict | undefined {
  const isOpen = [values.wsHost, values.apiHost].some((host) => acceptsRemotePlaintext(host, values))
  if (!values.requireTls || !isOpen) return undefined
  const { apiHost, requireTls, tlsCertificate, tlsPrivateKey, trustedProxies, wsHost } = definitions
  return {
    between: [requireTls, wsHost, apiHost, tlsCertificate, tlsPrivateKey, trustedProxies],
    problem: {
      name: requireTls.name,
      given: "true",
      allowed:
        `false, unless ${tlsCertificate.name} and ${tlsPrivateKey.name}, or ${trustedProxies.name}, are set, because ` +
        "every connection from another machine would be plaintext"
    }
  }
}

/** PROXY headers count only from trusted proxies, so the setting needs at least one. */
function proxyProtocolWithoutProxies(values: Values): Conflict | undefined {
  const { proxyProtocol, trustedProxies } = definitions
  if (values.proxyProtocol === "off" || values.trustedProxies.length > 0) return undefined
  return {
    between: [proxyProtocol, trustedProxies],
    problem: {
      name: proxyProtocol.name,
      given: values.proxyProtocol,
      allowed: `off, unless ${trustedProxies.name} contains the addresses of the proxies`
    }
  }
}
