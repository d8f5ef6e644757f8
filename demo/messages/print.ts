/** Prints aligned lines, in color only on a terminal (`styleText` respects NO_COLOR). */
import { styleText } from "node:util"
import type { Message } from "./client.ts"

type Style = Parameters<typeof styleText>[0]

export const paint = (style: Style, text: string): string => styleText(style, text)

export const line = (text = ""): void => console.log(text)

/** Prints the title of an action. */
export const title = (text: string): void => line(`\n${paint("bold", text)}`)

/** Prints an event and the time since its action began, if `nanos` is given. */
export const event = (nanos: bigint | undefined, name: string, what: string, detail = ""): void => {
  const time = nanos === undefined ? "" : `${(Number(nanos) / 1e6).toFixed(1)} ms`
  const start = `${time.padStart(11)}  ${paint("cyan", name.padEnd(8))}`
  line(detail === "" ? start + what : `${start}${what.padEnd(14)}${paint("dim", detail)}`)
}

export const fault = (text: string): void => line(`${" ".repeat(11)}  ${paint(["bold", "red"], `FAULT: ${text}`)}`)

/** Summarizes a message without its keys. `domains` maps tunnel ids to domains. */
export const describe = ({ type, data }: Message, domains: ReadonlyMap<string, string>): string => {
  const text = (field: string): string => String(data[field])
  switch (type) {
    case "tunnel_create":
    case "tunnel_update": {
      const agent = data["agentVirtualIp"] === undefined ? "" : ` via ${text("agentVirtualIp")}`
      return `${text("domain")} → ${text("target")}${agent}${data["enabled"] === false ? ", disabled" : ""}`
    }
    case "tunnel_delete":
      return domains.get(text("id")) ?? text("id")
    case "config":
      return ["gateways", "agents", "tunnels", "certificates"].flatMap((list) => {
        const rows = data[list]
        return Array.isArray(rows) ? [count(rows.length, list.slice(0, -1))] : []
      }).join(", ")
    case "auth_success":
      return text("message")
    case "error":
      return `${text("code")}: ${text("message")}`
    default:
      return ""
  }
}

export const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? "" : "s"}`
