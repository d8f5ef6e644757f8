/** Two network namespaces with wireguard-go between them, for comparison with the userspace device. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { sleep } from "./timing.ts"

/** The reason why wireguard-go cannot run here; undefined if it can. */
export const reasonWithoutWireguardGo = (): string | undefined => {
  if (process.getuid?.() !== 0) return "not root"
  if (!existsSync("/dev/net/tun")) return "no /dev/net/tun"
  for (const program of ["wireguard-go", "wg", "ip"]) {
    try {
      execFileSync("sh", ["-c", `command -v ${program}`], { stdio: "ignore" })
    } catch {
      return `${program} is not installed`
    }
  }
  return undefined
}

interface Side {
  readonly namespace: string
  /** Name of the interface. wireguard-go's control sockets are shared by all namespaces. */
  readonly device: string
  /** Address on the cable between the namespaces. */
  readonly outer: string
  /** Address inside the tunnel. */
  readonly inner: string
}

export class WireguardGoPair {
  readonly sides: readonly [Side, Side] = [side("a", 1), side("b", 2)]
  readonly #processes: Array<ChildProcess> = []

  /** Builds both ends and their tunnel. `mtu`: largest packet inside the tunnel. */
  async open(mtu: number): Promise<void> {
    const [left, right] = this.sides
    for (const { namespace } of this.sides) ip("netns", "add", namespace)
    ip(
      "link",
      "add",
      "cable",
      "netns",
      left.namespace,
      "type",
      "veth",
      "peer",
      "name",
      "cable",
      "netns",
      right.namespace
    )
    const keys = this.sides.map(() => {
      const privateKey = execFileSync("wg", ["genkey"], { encoding: "utf8" }).trim()
      return {
        privateKey,
        publicKey: execFileSync("sh", ["-c", "wg pubkey"], { input: privateKey, encoding: "utf8" }).trim()
      }
    })
    for (const [index, { device, inner, namespace, outer }] of this.sides.entries()) {
      const run = (...command: ReadonlyArray<string>) => ip("netns", "exec", namespace, ...command)
      run("ip", "link", "set", "lo", "up")
      run("ip", "addr", "add", `${outer}/30`, "dev", "cable")
      run("ip", "link", "set", "cable", "up")
      this.#processes.push(spawn("ip", ["netns", "exec", namespace, "wireguard-go", "-f", device], {
        stdio: "ignore",
        env: { ...process.env, WG_PROCESS_FOREGROUND: "1" }
      }))
      const socket = `/var/run/wireguard/${device}.sock`
      for (let attempt = 0; !existsSync(socket); attempt += 1) {
        if (attempt > 500) throw new Error("wireguard-go does not start")
        await sleep(10)
      }
      const other = this.sides[1 - index]!
      // `wg` opens /dev/stdin, which must be a pipe; Node gives a socket.
      const set =
        `cat | wg set ${device} listen-port 51820 private-key /dev/stdin peer ${keys[1 - index]!.publicKey} ` +
        `allowed-ips ${other.inner}/32 endpoint ${other.outer}:51820`
      execFileSync("ip", ["netns", "exec", namespace, "sh", "-c", set], { input: keys[index]!.privateKey })
      run("ip", "addr", "add", `${inner}/24`, "dev", device)
      run("ip", "link", "set", device, "up", "mtu", String(mtu))
    }
  }

  /** CPU time of both wireguard-go processes so far, in milliseconds. */
  cpuMillis(): number {
    return this.#processes.reduce((sum, { pid }) => sum + cpuMillisOf(pid!), 0)
  }

  async close(): Promise<void> {
    for (const child of this.#processes) {
      const ended = new Promise((resolve) => child.once("exit", resolve))
      if (child.exitCode === null && child.kill()) await ended
    }
    for (const { namespace } of this.sides) {
      try {
        ip("netns", "del", namespace)
      } catch {
        // It was not made.
      }
    }
  }
}

function side(letter: string, number: number): Side {
  return {
    namespace: `cw4-${process.pid}${letter}`,
    device: `cw4${process.pid}${letter}`,
    outer: `10.213.78.${number}`,
    inner: `10.99.1.${number}`
  }
}

function ip(...command: ReadonlyArray<string>): void {
  execFileSync("ip", command, { stdio: ["ignore", "ignore", "pipe"] })
}

/** `ip netns exec` becomes the program that it starts. Linux counts in ticks of 10 ms. */
function cpuMillisOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /u, "").split(" ")
  return (Number(fields[11]) + Number(fields[12])) * 10
}
