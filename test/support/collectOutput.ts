/** Passes every output of Control to the secret scanner, without the secrets that belong into that output. */
import { Cause, Logger } from "effect"
import { formatWithOptions } from "node:util"
import { secretScanner } from "./SecretScanner.ts"

const mintedKey = /ctl_(?:agt|gw|adm)_[A-Za-z0-9]{12}_[\w-]{43}/u

function addMintedKey(text: string): string | undefined {
  const key = mintedKey.exec(text)?.[0]
  if (key !== undefined) secretScanner.addSecret(key.startsWith("ctl_adm") ? "admin token" : "API key", key)
  return key
}

/** Collects a response of the API. A response that creates a key may contain that key once. */
export const collectResponse = (request: string, status: number, head: string, body: string): void => {
  const key = status === 201 ? addMintedKey(body) : undefined
  // The path of the request may contain a secret, which the report must not repeat.
  secretScanner.addOutput(
    `answer ${status} to ${request.replaceAll(/[^/?&=\s]{20,}/gu, "…")}`,
    head + (key === undefined ? body : body.replace(key, ""))
  )
}

/** The client that receives messages, and its id once a config has contained it. */
export interface FrameReceiver {
  readonly isAgent: boolean
  id?: string | undefined
}

/** Collects a message to a client. It may contain the client's own WireGuard key, and, for a gateway, keys of certificates. */
export const collectFrame = (text: string, receiver: FrameReceiver): void => {
  const { isAgent } = receiver
  receiver.id ??= /"(?:agent|gateway)":\{"id":"([^"]+)"/u.exec(text)?.[1]
  const owner = receiver.id ?? ""
  const rest = text.replaceAll(
    /"(wireguardPrivateKey|privateKey)":"((?:[^"\\]|\\.)*)"/gu,
    (field, name: string, escaped: string) => {
      const secret: string = JSON.parse(`"${escaped}"`)
      if (name === "wireguardPrivateKey") {
        return secretScanner.addOwnedSecret("WireGuard private key", secret, owner) ? "" : field
      }
      secretScanner.addSecret("private key of a certificate", secret)
      return isAgent ? field : ""
    }
  )
  secretScanner.addOutput(`message to ${isAgent ? "an agent" : "a gateway"}`, rest)
}

/** Collects the output of a child process. With `mayMint` it may contain one new key once. */
export const collectProcessOutput = (program: string, text: string, mayMint = false): void => {
  const key = mayMint ? addMintedKey(text) : undefined
  secretScanner.addOutput(`output of ${program}`, key === undefined ? text : text.replace(key, ""))
}

/** Collects every log line of every level, as JSON and as text with the fields of its objects. */
export const collectingLogger = Logger.make<unknown, void>((options) => {
  secretScanner.addOutput("log, as JSON", Logger.formatJson.log(options))
  secretScanner.addOutput(
    "log, as text",
    `${formatWithOptions({ depth: 8 }, options.message)}\n${Cause.pretty(options.cause)}`
  )
})
