/** Network namespaces with a real NAT: home – router – edge. Needs root and Linux. */
import { spawnSync } from "node:child_process"

const run = (command: string, args: ReadonlyArray<string>, input = ""): string => {
  const { error, status, stderr, stdout } = spawnSync("/bin/sh", ["-c", "cat | \"$0\" \"$@\"", command, ...args], {
    input,
    encoding: "utf8"
  })
  if (error !== undefined || status !== 0) throw new Error(`${command} ${args.join(" ")}: ${error?.message ?? stderr}`)
  return stdout
}

/** The reason why this machine has no such namespaces; undefined if it has. */
export const namespacesProblem = (): string | undefined => {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "they need root on Linux"
  for (
    const [command, argument] of [["ip", "-V"], ["nft", "--version"], ["wg", "--version"], [
      "wireguard-go",
      "--version"
    ]]
  ) {
    if (spawnSync(command ?? "", [argument ?? ""]).status !== 0) return `${command} is missing`
  }
  if (spawnSync("ip", ["netns", "add", probe]).status !== 0) return "the system has no network namespaces"
  run("ip", ["netns", "del", probe])
  return undefined
}

const probe = "ctlprobe"

export const edgeAddress = "203.0.113.7"
const routerAddress = "203.0.113.50"

const routerRules = (ports: string) =>
  `flush ruleset
table ip nat {
  chain post {
    type nat hook postrouting priority 100;
    oifname "wan" meta l4proto udp masquerade to :${ports}
    oifname "wan" masquerade
  }
}
table ip filter {
  chain forward {
    type filter hook forward priority 0; policy drop;
    iifname "lan" accept
    ct state established,related accept
  }
}
`

/** `home` 192.168.77.2 – `router` (masquerade, drops what was not asked for) – `edge` 203.0.113.7. */
export class Namespaces {
  readonly #prefix: string

  constructor(prefix: string) {
    this.#prefix = prefix
    for (const name of ["edge", "router", "home"]) {
      spawnSync("ip", ["netns", "del", this.name(name)])
      run("ip", ["netns", "add", this.name(name)])
      this.ip(name, "link", "set", "lo", "up")
    }
    this.#connect("router", "wan", `${routerAddress}/24`, "edge", "eth0", `${edgeAddress}/24`)
    this.#connect("router", "lan", "192.168.77.1/24", "home", "eth0", "192.168.77.2/24")
    this.ip("home", "route", "add", "default", "via", "192.168.77.1")
    this.exec("router", "sysctl", "-qw", "net.ipv4.ip_forward=1")
    this.rules(routerRules("40000-40999"))
  }

  name(namespace: string): string {
    return `${this.#prefix}-${namespace}`
  }

  exec(namespace: string, ...words: ReadonlyArray<string>): string {
    return run("ip", ["netns", "exec", this.name(namespace), ...words])
  }

  ip(namespace: string, ...words: ReadonlyArray<string>): void {
    run("ip", ["-n", this.name(namespace), ...words])
  }

  /** The router forgets its mappings, and gives new ones other ports. */
  rebind(): void {
    this.ip("router", "addr", "del", `${routerAddress}/24`, "dev", "wan")
    this.ip("router", "addr", "add", "203.0.113.51/24", "dev", "wan")
    this.rules(routerRules("41000-41999"))
  }

  /** Packets above this size vanish between router and edge, without an ICMP message. */
  limitPath(mtu: number): void {
    this.exec("edge", "nft", "add table inet path; add chain inet path in { type filter hook input priority -300; }")
    this.exec("edge", "nft", `add rule inet path in iifname eth0 meta length > ${mtu} drop`)
  }

  remove(): void {
    for (const name of ["home", "router", "edge"]) spawnSync("ip", ["netns", "del", this.name(name)])
  }

  rules(text: string): void {
    run("ip", ["netns", "exec", this.name("router"), "nft", "-f", "/dev/stdin"], text)
  }

  #connect(a: string, aLink: string, aAddress: string, b: string, bLink: string, bAddress: string): void {
    run("ip", [
      "link",
      "add",
      aLink,
      "netns",
      this.name(a),
      "type",
      "veth",
      "peer",
      "name",
      bLink,
      "netns",
      this.name(b)
    ])
    for (const [name, link, address] of [[a, aLink, aAddress], [b, bLink, bAddress]] as const) {
      this.ip(name, "addr", "add", address, "dev", link)
      this.ip(name, "link", "set", link, "up")
    }
  }
}
