/** Parsers of environment variables, each with a description of the allowed values. */
import { type Cidr, ipVersion, parseCidr, parseIpv4 } from "#schema/addresses.ts"
import { HostName } from "#schema/ids.ts"
import { Duration, type LogLevel, Option, Schema } from "effect"

/** `allowed` completes the sentence "NAME must be …". */
export interface Parser<A> {
  readonly allowed: string
  readonly parse: (text: string) => Option.Option<A>
}

export const wholeNumber = (minimum: number, maximum: number, note = ""): Parser<number> => ({
  allowed: `a whole number from ${minimum} to ${maximum}${note}`,
  parse: (text) =>
    Option.some(Number(text)).pipe(
      Option.filter((number) => /^\d{1,12}$/u.test(text) && number >= minimum && number <= maximum)
    )
})

/** `30 seconds` or `2500 millis`, the form that the parser accepts; `Duration.format` returns another form. */
export const formatDuration = (duration: Duration.Duration): string => {
  const millis = Duration.toMillis(duration)
  return millis % 1000 === 0 ? `${millis / 1000} seconds` : `${millis} millis`
}

/** Durations up to 1 day. (Timers of Node cannot exceed 24.8 days.) */
export const duration = (minimum: Duration.Duration): Parser<Duration.Duration> => ({
  allowed: `a duration from ${formatDuration(minimum)} to 1 day, such as 2500 millis, 30 seconds or 2 minutes`,
  parse: (text) =>
    Schema.decodeOption(Schema.DurationFromString)(text).pipe(
      Option.filter(Duration.between({ minimum, maximum: Duration.days(1) }))
    )
})

/** A number of days; tasks that run once an hour compare it with the age of rows. */
export const days = (minimum: number, maximum: number): Parser<Duration.Duration> => ({
  allowed: `a number of days from ${minimum} to ${maximum}, such as ${minimum} days`,
  parse: (text) =>
    Option.fromNullishOr(/^(\d{1,5}) days?$/u.exec(text)?.[1]).pipe(
      Option.map(Number),
      Option.filter((number) => number >= minimum && number <= maximum),
      Option.map(Duration.days)
    )
})

const isHostName = Schema.is(HostName)

const isHost = (text: string): boolean => ipVersion(text) !== 0 || (isHostName(text) && !text.startsWith("*."))

/** A link-local address to listen on has a zone. */
export const host: Parser<string> = {
  allowed: "an IP address or a host name of this machine",
  parse: (text) =>
    isHost(text) || /^fe80:.*%[\w.-]{1,15}$/iu.test(text) && isHost(text.replace(/%.*/u, ""))
      ? Option.some(text)
      : Option.none()
}

/** Rejects the content of a file and URLs, because an error about a missing file would print them. */
const isPath = (text: string): boolean => !/[\0\r\n]|:\/\//u.test(text)

export const path: Parser<string> = {
  allowed: "the path of a directory",
  parse: (text) => isPath(text) ? Option.some(text) : Option.none()
}

/** The path of a file; none for an empty text. */
export const optionalPath: Parser<Option.Option<string>> = {
  allowed: "the path of a file",
  parse: (text) => isPath(text) ? Option.some(text === "" ? Option.none() : Option.some(text)) : Option.none()
}

/** A list of items between commas; empty for an empty text. */
const list = <A>(allowed: string, parseOne: (item: string) => A | undefined): Parser<ReadonlyArray<A>> => ({
  allowed,
  parse: (text) => {
    const items = text.split(",").map((item) => item.trim()).filter((item) => item !== "")
    const values = items.map(parseOne).filter((value) => value !== undefined)
    return values.length === items.length ? Option.some(values) : Option.none()
  }
})

export const cidrs: Parser<ReadonlyArray<Cidr>> = list(
  "IP addresses or networks in CIDR notation, separated by commas, such as 10.0.0.0/8,2001:db8::/32",
  parseCidr
)

export const hosts: Parser<ReadonlyArray<string>> = list(
  "host names or IP addresses without ports, separated by commas, such as control.example.com",
  (item) => isHost(item.toLowerCase()) ? item.toLowerCase() : undefined
)

export const origins: Parser<ReadonlyArray<string>> = list(
  "origins, separated by commas, such as https://console.example.com",
  (item) => {
    const url = URL.parse(item)
    const isOrigin = url !== null && /^https?:$/u.test(url.protocol) &&
      item.toLowerCase().replace(/\/$/u, "") === url.origin
    return isOrigin ? url.origin : undefined
  }
)

export const optionalWebSocketUrl: Parser<Option.Option<string>> = {
  allowed: "a URL such as wss://control.example.com or ws://192.0.2.1:3001, without a user or a fragment",
  parse: (text) => {
    if (text === "") return Option.some(Option.none())
    const url = URL.parse(text)
    const isAllowed = url !== null && /^wss?:$/u.test(url.protocol) && url.username === "" && url.password === "" &&
      url.hash === "" && !/[\s"'$`\\]/u.test(text)
    return isAllowed ? Option.some(Option.some(text)) : Option.none()
  }
}

export const nodeName: Parser<string> = {
  allowed: "a name of 1 to 128 characters",
  parse: (text) => /^[^\p{Cc}]{1,128}$/u.test(text) ? Option.some(text) : Option.none()
}

/** A network that contains at least one /24. Host bits are rejected, because they are usually a mistake. */
export const networkPool: Parser<string> = {
  allowed: "an IPv4 network in CIDR notation from /8 to /24 without host bits, such as 10.64.0.0/10",
  parse: (text) => {
    const network = parseCidr(text)
    const isPool = network?.family === "ipv4" && network.length >= 8 && network.length <= 24 && !hasHostBits(network)
    return isPool ? Option.some(text) : Option.none()
  }
}

function hasHostBits({ address, length }: Cidr): boolean {
  const bits = parseIpv4(address)?.map((octet) => octet.toString(2).padStart(8, "0")).join("") ?? ""
  return bits.slice(length).includes("1")
}

const choice = <const A>(choices: Readonly<Record<string, A>>): Parser<A> => ({
  allowed: `one of ${Object.keys(choices).join(", ")}`,
  parse: (text) => Object.hasOwn(choices, text) ? Option.fromUndefinedOr(choices[text]) : Option.none()
})

export const logLevel: Parser<LogLevel.LogLevel> = choice<LogLevel.LogLevel>({
  trace: "Trace",
  debug: "Debug",
  info: "Info",
  warn: "Warn",
  error: "Error",
  fatal: "Fatal",
  none: "None"
})

export const ports: Parser<"off" | "ws" | "api" | "both"> = choice<"off" | "ws" | "api" | "both">({
  off: "off",
  ws: "ws",
  api: "api",
  both: "both"
})

export const flag: Parser<boolean> = choice<boolean>({ true: true, false: false })

export const logFormat: Parser<"json" | "pretty"> = choice<"json" | "pretty">({ json: "json", pretty: "pretty" })

const text = (allowed: string, isAllowed: (text: string) => boolean): Parser<string> => ({
  allowed,
  parse: (text) => isAllowed(text) ? Option.some(text) : Option.none()
})

export const databaseUrl = text(
  "a URL such as postgres://user:password@host:5432/database",
  (text) => /^postgres(?:ql)?:\/\//u.test(text)
)

/** The characters of a bearer token (RFC 6750 section 2.1), which need no encoding in a header. */
export const token = text(
  "16 to 1024 letters, digits or characters of -._~+/=",
  (text) => /^[A-Za-z0-9._~+/=-]{16,1024}$/u.test(text)
)

export const masterKey = text(
  "32 random bytes in base64, as printed by `openssl rand -base64 32`",
  (text) => /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/u.test(text)
)

/** One text with commas between the keys, because every secret is one text, and base64 has no comma. */
export const masterKeys: Parser<string> = {
  allowed: `${masterKey.allowed}; several keys are separated by commas`,
  parse: (text) => {
    const keys = text.split(",").map((key) => masterKey.parse(key.trim()))
    return keys.every(Option.isSome) ? Option.some(keys.map(({ value }) => value).join(",")) : Option.none()
  }
}
