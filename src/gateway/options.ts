/** Options of `control gateway run`. */
import { commonOptions } from "#program/commonOptions.ts"
import { OptionProblem, type Options, type OptionValues, optionValues } from "#program/options.ts"
import { ipVersion, parseCidr } from "#schema/addresses.ts"

const port = (name: string, variable: string, description: string, value: string) => ({
  name,
  variable,
  metavar: "PORT",
  description,
  default: value,
  parse: optionValues.port
})

export const gatewayOptions = {
  ...commonOptions("GATEWAY"),
  publicIp: {
    name: "public-ip",
    variable: "CONTROL_GATEWAY_PUBLIC_IP",
    metavar: "ADDRESS",
    description: "Public address of this machine, which replaces the one that Control has stored",
    default: undefined,
    parse: (text: string) => {
      if (ipVersion(text) === 0) throw new OptionProblem("an IPv4 or IPv6 address such as 203.0.113.7")
      return text
    }
  },
  device: {
    name: "device",
    variable: "CONTROL_GATEWAY_DEVICE",
    metavar: "KIND",
    description:
      "WireGuard device: `kernel` needs root and the tools ip and wg, `userspace` needs nothing, `auto` is `kernel` where it works",
    default: "auto",
    parse: optionValues.choice(["auto", "userspace", "kernel"])
  },
  bind: {
    name: "bind",
    variable: "CONTROL_GATEWAY_BIND",
    metavar: "ADDRESS",
    description: "Addresses at which visitors are served; can be repeated. By default all of this machine",
    default: "",
    isList: true,
    parse: (text: string) => {
      const addresses = optionValues.list(text)
      if (addresses.some((address) => ipVersion(address) === 0))
        throw new OptionProblem("IP addresses such as 203.0.113.7")
      return addresses
    }
  },
  httpPort: port("http-port", "CONTROL_GATEWAY_HTTP_PORT", "Port for HTTP", "80"),
  httpsPort: port("https-port", "CONTROL_GATEWAY_HTTPS_PORT", "Port for HTTPS and TLS tunnels", "443"),
  publicHttpsPort: port(
    "public-https-port",
    "CONTROL_GATEWAY_PUBLIC_HTTPS_PORT",
    "Port that visitors use for HTTPS, if a router or proxy maps it to --https-port",
    "443"
  ),
  trustedProxies: {
    name: "trusted-proxy",
    variable: "CONTROL_GATEWAY_TRUSTED_PROXIES",
    metavar: "CIDR",
    description: "Proxies in front of this gateway whose X-Forwarded-* and PROXY headers are believed; can be repeated",
    default: "",
    isList: true,
    parse: (text: string) => {
      const networks = optionValues.list(text).map(parseCidr)
      if (networks.includes(undefined)) throw new OptionProblem("networks such as 10.0.0.0/8 or 192.0.2.5")
      return networks.filter((network) => network !== undefined)
    }
  },
  proxyProtocol: {
    name: "proxy-protocol",
    variable: "CONTROL_GATEWAY_PROXY_PROTOCOL",
    metavar: undefined,
    description: "Expect a PROXY header (version 1 or 2) on connections from trusted proxies",
    default: "false",
    parse: (text: string) => text === "true"
  },
  accessLog: {
    name: "access-log",
    variable: "CONTROL_GATEWAY_ACCESS_LOG",
    metavar: "FORMAT",
    description: "Write one line for each request to standard output: `json`, `combined` (Apache) or `off`",
    default: "off",
    parse: optionValues.choice(["off", "json", "combined"])
  },
  drainTimeout: {
    name: "drain-timeout",
    variable: "CONTROL_GATEWAY_DRAIN_TIMEOUT",
    metavar: "DURATION",
    description: "Time for running requests to end after SIGTERM",
    default: "30s",
    parse: optionValues.seconds
  }
} satisfies Options

export type GatewayOptionValues = OptionValues<typeof gatewayOptions>
