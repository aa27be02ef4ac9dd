// Lays ramdisks out with linuxkit, as AWS's build-enclave has it do: the image from "docker export" below
// rootfs/, the files of its YAML, uncompressed.
//
// Usage: linuxkit, with "IMAGE CMD ENV OUT" on each line of standard input; each is answered by one line.
// IMAGE is a tar as "docker export" writes it, or the name of an image of the daemon at DOCKER_HOST.
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/reference"
	"github.com/linuxkit/linuxkit/src/cmd/linuxkit/initrd"
	"github.com/linuxkit/linuxkit/src/cmd/linuxkit/moby"
	"github.com/linuxkit/linuxkit/src/cmd/linuxkit/moby/build"
)

const (
	resolver = "/run/resolvconf/resolv.conf" // what linuxkit's build gives its init images
	files    = `files:
  - {path: rootfs/dev, directory: true, mode: "0755"}
  - {path: rootfs/run, directory: true, mode: "0755"}
  - {path: rootfs/sys, directory: true, mode: "0755"}
  - {path: rootfs/var, directory: true, mode: "0755"}
  - {path: rootfs/proc, directory: true, mode: "0755"}
  - {path: rootfs/tmp, directory: true, mode: "0755"}
  - {path: cmd, source: "%s", mode: "0644"}
  - {path: env, source: "%s", mode: "0644"}
`
)

// onlyOnce is AWS's third patch seen from outside: what linuxkit has replaced is not added again.
type onlyOnce struct {
	*tar.Writer
	seen    map[string]bool
	dropped bool
}

func (w *onlyOnce) WriteHeader(header *tar.Header) error {
	name := strings.TrimPrefix(header.Name, "rootfs/")
	w.dropped = w.seen[name] && (name == "etc/hosts" || name == "etc/resolv.conf")
	w.seen[name] = true
	if w.dropped {
		return nil
	}
	return w.Writer.WriteHeader(header)
}

func (w *onlyOnce) Write(data []byte) (int, error) {
	if w.dropped {
		return len(data), nil
	}
	return w.Writer.Write(data)
}

// engine answers what linuxkit asks a Docker daemon for, with a container's export from a file.
func engine(export *string) http.HandlerFunc {
	return func(answer http.ResponseWriter, request *http.Request) {
		path := request.URL.Path
		switch {
		case strings.HasSuffix(path, "/_ping"):
			answer.Header().Set("API-Version", "1.41")
		case strings.Contains(path, "/images/"), strings.HasSuffix(path, "/containers/create"):
			answer.Header().Set("Content-Type", "application/json")
			fmt.Fprint(answer, `{"Id": "1"}`)
		case strings.HasSuffix(path, "/export"):
			http.ServeFile(answer, request, *export)
		case request.Method == http.MethodDelete:
			answer.WriteHeader(http.StatusNoContent)
		default:
			answer.WriteHeader(http.StatusNotFound)
		}
	}
}

func layOut(image, cmd, env, out string) error {
	reference, err := reference.Parse(image)
	if err != nil {
		return err
	}
	var whole bytes.Buffer
	opts := build.BuildOpts{DockerCache: true, Arch: "amd64"}
	writer := &onlyOnce{Writer: tar.NewWriter(&whole), seen: map[string]bool{}}
	if err := build.ImageTar("init[0]", &reference, "rootfs/", writer, resolver, opts); err != nil {
		return err
	}
	if err := writer.Flush(); err != nil { // without an end: the files follow
		return err
	}
	config, err := moby.NewConfig([]byte(fmt.Sprintf(files, cmd, env)), nil)
	if err != nil {
		return err
	}
	if err := build.Build(config, &whole, opts); err != nil {
		return err
	}
	var packed bytes.Buffer
	disk := initrd.NewWriter(&packed)
	if _, _, _, err := initrd.CopySplitTar(disk, tar.NewReader(&whole)); err != nil {
		return err
	}
	if err := disk.Close(); err != nil {
		return err
	}
	plain, err := gzip.NewReader(&packed) // AWS's second patch leaves the compression out
	if err != nil {
		return err
	}
	target, err := os.Create(out)
	if err != nil {
		return err
	}
	defer target.Close()
	_, err = io.Copy(target, plain)
	return err
}

func main() {
	directory, err := os.MkdirTemp("", "linuxkit-")
	if err != nil {
		panic(err)
	}
	build.MobyDir = directory
	defer os.RemoveAll(build.MobyDir)
	export := ""
	if os.Getenv("DOCKER_HOST") == "" {
		socket := filepath.Join(build.MobyDir, "engine")
		listener, err := net.Listen("unix", socket)
		if err != nil {
			panic(err)
		}
		defer listener.Close()
		go http.Serve(listener, engine(&export))
		os.Setenv("DOCKER_HOST", "unix://"+socket)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words, image := strings.Fields(lines.Text()), ""
		if len(words) != 4 {
			fmt.Println("expected: IMAGE CMD ENV OUT")
			continue
		}
		image = words[0]
		if strings.HasPrefix(image, "/") {
			export, image = image, "docker.io/library/exported:latest"
		}
		if err := layOut(image, words[1], words[2], words[3]); err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		fmt.Println("done")
	}
}
