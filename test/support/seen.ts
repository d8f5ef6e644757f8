/** What comes out of Control, on its way to the canaries: without the secrets that belong there. */
import { Cause, Logger } from "effect"
import { formatWithOptions } from "node:util"
import { canaries } from "./canaries.ts"

const mintedKey = /ctl_(?:agt|gw|adm)_[A-Za-z0-9]{12}_[\w-]{43}/u

function minted(text: string): string | undefined {
  const key = mintedKey.exec(text)?.[0]
  if (key !== undefined) canaries.plant(key.startsWith("ctl_adm") ? "admin token" : "API key", key)
  return key
}

/** An answer of the API. The one that has made a key may tell it, once. */
export const sawAnswer = (request: string, status: number, head: string, body: string): void => {
  const key = status === 201 ? minted(body) : undefined
  // The request may have a secret in its path, and the report must not.
  canaries.collect(
    `answer ${status} to ${request.replaceAll(/[^/?&=\s]{20,}/gu, "…")}`,
    head + (key === undefined ? body : body.replace(key, ""))
  )
}

/** Who reads messages, and who they have told it that it is. */
export interface Reader {
  readonly isAgent: boolean
  id?: string | undefined
}

/** A message to a client: it may have its own WireGuard key, and a gateway the keys of certificates. */
export const sawFrame = (text: string, reader: Reader): void => {
  const { isAgent } = reader
  reader.id ??= /"(?:agent|gateway)":\{"id":"([^"]+)"/u.exec(text)?.[1]
  const owner = reader.id ?? ""
  const rest = text.replaceAll(
    /"(wireguardPrivateKey|privateKey)":"((?:[^"\\]|\\.)*)"/gu,
    (field, name: string, escaped: string) => {
      const secret: string = JSON.parse(`"${escaped}"`)
      if (name === "wireguardPrivateKey") {
        return canaries.plantOwned("WireGuard private key", secret, owner) ? "" : field
      }
      canaries.plant("private key of a certificate", secret)
      return isAgent ? field : ""
    }
  )
  canaries.collect(`message to ${isAgent ? "an agent" : "a gateway"}`, rest)
}

/** Whatever a child process has printed. The command line may show the key that it has made, once. */
export const sawOutput = (program: string, text: string, mayMint = false): void => {
  const key = mayMint ? minted(text) : undefined
  canaries.collect(`output of ${program}`, key === undefined ? text : text.replace(key, ""))
}

/** Every line of every level, as JSON and as people get it, and with all that an object in it has. */
export const watchingLogger = Logger.make<unknown, void>((options) => {
  canaries.collect("log, as JSON", Logger.formatJson.log(options))
  canaries.collect(
    "log, for people",
    `${formatWithOptions({ depth: 8 }, options.message)}\n${Cause.pretty(options.cause)}`
  )
})
