/** From the text of an environment variable to a value: each parser with the words that say what it accepts. */
import { HostName, Ipv4Cidr } from "#schema/ids.ts"
import { Duration, type LogLevel, Option, Schema } from "effect"
import { isIP } from "node:net"
import { type Cidr, parseCidr } from "./addresses.ts"

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

/** In the form that settings are written in, `30 seconds`, which `Duration.format` does not give. */
export const durationInWords = (duration: Duration.Duration): string => {
  const millis = Duration.toMillis(duration)
  return millis % 1000 === 0 ? `${millis / 1000} seconds` : `${millis} millis`
}

/** At most a day, since timers cannot wait for longer than 24.8 of them. */
export const duration = (minimum: Duration.Duration): Parser<Duration.Duration> => ({
  allowed: `a duration from ${durationInWords(minimum)} to 1 day, such as 2500 millis, 30 seconds or 2 minutes`,
  parse: (text) =>
    Schema.decodeOption(Schema.DurationFromString)(text).pipe(
      Option.filter(Duration.between({ minimum, maximum: Duration.days(1) }))
    )
})

const isHostName = Schema.is(HostName)

export const host: Parser<string> = {
  allowed: "an IP address or a host name of this machine",
  parse: (text) => isIP(text) !== 0 || (isHostName(text) && !text.startsWith("*.")) ? Option.some(text) : Option.none()
}

/** The contents of a file, or a URL, would else be told with the complaint that there is no such file. */
const isPath = (text: string): boolean => !/[\0\r\n]|:\/\//u.test(text)

export const path: Parser<string> = {
  allowed: "the path of a directory",
  parse: (text) => isPath(text) ? Option.some(text) : Option.none()
}

/** Unset is the empty text. */
export const optionalPath: Parser<Option.Option<string>> = {
  allowed: "the path of a file",
  parse: (text) => isPath(text) ? Option.some(text === "" ? Option.none() : Option.some(text)) : Option.none()
}

/** `one`, `other`: what is between the commas, and nothing for an empty text. */
const list = <A>(allowed: string, parseOne: (item: string) => A | undefined): Parser<ReadonlyArray<A>> => ({
  allowed,
  parse: (text) => {
    const items = text.split(",").map((item) => item.trim()).filter((item) => item !== "")
    const values = items.map(parseOne).filter((value) => value !== undefined)
    return values.length === items.length ? Option.some(values) : Option.none()
  }
})

export const cidrs: Parser<ReadonlyArray<Cidr>> = list(
  "addresses or networks in CIDR notation between commas, such as 10.0.0.0/8, 2001:db8::/32",
  parseCidr
)

export const hosts: Parser<ReadonlyArray<string>> = list(
  "host names or IP addresses between commas, without ports, such as control.example.com",
  (item) => Option.getOrUndefined(host.parse(item.toLowerCase()))
)

export const origins: Parser<ReadonlyArray<string>> = list(
  "origins between commas, such as https://console.example.com",
  (item) => {
    const url = URL.parse(item)
    const isOrigin = url !== null && /^https?:$/u.test(url.protocol) &&
      item.toLowerCase().replace(/\/$/u, "") === url.origin
    return isOrigin ? url.origin : undefined
  }
)

export const nodeName: Parser<string> = {
  allowed: "a name of 1 to 128 characters",
  parse: (text) => /^[^\p{Cc}]{1,128}$/u.test(text) ? Option.some(text) : Option.none()
}

const isCidr = Schema.is(Ipv4Cidr)

/** A network from which at least one /24 can be cut; host bits are refused since they are most often a slip. */
export const networkPool: Parser<string> = {
  allowed: "an IPv4 network in CIDR notation from /8 to /24 without host bits, such as 10.64.0.0/10",
  parse: (text) => {
    if (!isCidr(text)) return Option.none()
    const [address = "", length = ""] = text.split("/")
    const bits = address.split(".").reduce((sum, octet) => sum * 256 + Number(octet), 0)
    const prefix = Number(length)
    return prefix >= 8 && prefix <= 24 && bits % 2 ** (32 - prefix) === 0 ? Option.some(text) : Option.none()
  }
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
  (text) => /^postgres(?:ql)?:\/\//u.test(text) && URL.canParse(text)
)

/** The characters of a bearer token (RFC 6750), so that it fits a header as it is. */
export const token = text(
  "at least 16 characters out of letters, digits and -._~+/=",
  (text) => /^[A-Za-z0-9._~+/=-]{16,1024}$/u.test(text)
)

export const masterKey = text(
  "32 random bytes in base64, as `openssl rand -base64 32` prints them",
  (text) => /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/u.test(text)
)

/** As one text, like every secret: its parts are told apart by the comma, which base64 does not have. */
export const masterKeys: Parser<string> = {
  allowed: `${masterKey.allowed}; several between commas`,
  parse: (text) => {
    const keys = text.split(",").map((key) => masterKey.parse(key.trim()))
    return keys.every(Option.isSome) ? Option.some(keys.map(({ value }) => value).join(",")) : Option.none()
  }
}
