/** Network namespaces with a real NAT: home – router – edge. Needs root and Linux. */
import { commandOf } from "#support/processTree.ts"
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

/** Test files ask at the same time. */
const probe = `ctlprobe${process.pid}`

export const edgeAddress = "203.0.113.7"
/** Address of the router at the edge. */
export const routerAddress = "203.0.113.50"

/**
 * Masquerades, and drops what was not asked for. The mappings of another `generation` are in another zone of the connection
 * tracking, so that they are forgotten at once, and UDP gets ports of another range.
 */
const routerRules = (generation: number) =>
  `add table ip nat
add table ip filter
delete table ip nat
delete table ip filter
table ip nat {
  chain zone {
    type filter hook prerouting priority -300;
    ct zone set ${generation + 1}
  }
  chain localZone {
    type filter hook output priority -300;
    ct zone set ${generation + 1}
  }
  chain post {
    type nat hook postrouting priority 100;
    oifname "wan" meta l4proto udp masquerade to :${40_000 + generation * 1_000}-${40_999 + generation * 1_000}
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

/** Namespaces end with their last process and their name; a killed run leaves the names. */
const removeLeftovers = () => {
  for (const line of run("ip", ["netns", "list"]).split("\n")) {
    const [name = ""] = line.split(" ")
    const [, pid] = /^c[nw].*?(\d+)-(?:edge|router|home)$/u.exec(name) ?? []
    if (pid !== undefined && commandOf(Number(pid)).length === 0) spawnSync("ip", ["netns", "del", name])
  }
}

/** `home` 192.168.77.2 – `router` (masquerade, drops what was not asked for) – `edge` 203.0.113.7. */
export class Namespaces {
  readonly #prefix: string
  #rebinds = 0

  /** `prefix`: ends with the id of this process, so that a later run can remove what a killed one has left. */
  constructor(prefix: string) {
    this.#prefix = prefix
    removeLeftovers()
    for (const name of ["edge", "router", "home"]) {
      spawnSync("ip", ["netns", "del", this.name(name)])
      run("ip", ["netns", "add", this.name(name)])
      this.ip(name, "link", "set", "lo", "up")
    }
    this.#connect("router", "wan", `${routerAddress}/24`, "edge", "eth0", `${edgeAddress}/24`)
    this.#connect("router", "lan", "192.168.77.1/24", "home", "eth0", "192.168.77.2/24")
    this.ip("home", "route", "add", "default", "via", "192.168.77.1")
    this.exec("router", "sysctl", "-qw", "net.ipv4.ip_forward=1")
    // The connections to Control find the path MTU themselves; the tunnels do not need to.
    for (const name of ["edge", "home"]) this.exec(name, "sysctl", "-qw", "net.ipv4.tcp_mtu_probing=1")
    this.rules(routerRules(0))
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
    this.#rebinds += 1
    this.rules(routerRules(this.#rebinds))
  }

  /** Home gets another address, as a laptop in another network. */
  moveHome(): void {
    this.ip("home", "addr", "flush", "dev", "eth0", "scope", "global")
    this.ip("home", "addr", "add", "192.168.77.3/24", "dev", "eth0")
    this.ip("home", "route", "add", "default", "via", "192.168.77.1")
  }

  /** Packets above this size vanish between router and edge in both directions, without an ICMP message. */
  limitPath(mtu: number): void {
    this.ip("router", "link", "set", "wan", "mtu", String(mtu))
    this.exec("router", "nft", "add table inet path; add chain inet path out { type filter hook output priority 0; }")
    this.exec("router", "nft", "add rule inet path out icmp type destination-unreachable drop")
  }

  /** Processes of a namespace that run this program. */
  pids(namespace: string, program: string): ReadonlyArray<number> {
    const pids = run("ip", ["netns", "pids", this.name(namespace)]).split("\n").filter((line) => line !== "").map(
      Number
    )
    return pids.filter((pid) => commandOf(pid)[0] === program)
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
