/** The URL at which agents and gateways reach this server. Pure, except for the machine's addresses. */
import { formatHostPort, type SettingsValues } from "#server/Settings.ts"
import { Option } from "effect"
import { networkInterfaces } from "node:os"

/**
 * `CONTROL_PUBLIC_URL`, otherwise the address of the settings. For a wildcard address it is this machine's first IPv4 address
 * that other machines can reach, which is wrong behind NAT. `port`: the bound port.
 */
export const clientUrl = (
  settings: Pick<SettingsValues, "publicUrl" | "tlsCertificate" | "wsHost">,
  port: number,
  addresses: () => ReadonlyArray<string> = externalAddresses
): string => {
  if (Option.isSome(settings.publicUrl)) return settings.publicUrl.value
  const isWildcard = settings.wsHost === "::" || settings.wsHost === "0.0.0.0"
  const host = isWildcard ? addresses()[0] ?? "127.0.0.1" : settings.wsHost
  return `${Option.isSome(settings.tlsCertificate) ? "wss" : "ws"}://${formatHostPort(host, port)}`
}

function externalAddresses(): ReadonlyArray<string> {
  return Object.values(networkInterfaces()).flatMap((addresses = []) =>
    addresses.filter(({ family, internal }) => family === "IPv4" && !internal).map(({ address }) => address)
  )
}
