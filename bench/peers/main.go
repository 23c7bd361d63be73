// The least that a webhook in Go needs to do to a pod what podsla does, for one class that is fixed: typed pods, the
// usual library, and the patch that it derives from the pod before and after.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// Class is a class that has one size.
type Class struct {
	Name, Size, Record      string
	Domain                  string // of the keys on pods
	CPU, Memory, PPS, Floor resource.Quantity
	Affinity                *corev1.Affinity
}

type sizer struct {
	Class
	decoder admission.Decoder
}

func (s *sizer) Handle(_ context.Context, request admission.Request) admission.Response {
	pod := &corev1.Pod{}
	if err := s.decoder.Decode(request, pod); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if pod.Annotations[s.Domain+"class"] != s.Name {
		return admission.Denied("unknown class")
	}
	pps := s.Floor
	if text, named := pod.Annotations[s.Domain+"min-pps"]; named {
		wanted, err := resource.ParseQuantity(text)
		if err != nil {
			return admission.Denied(err.Error())
		}
		if wanted.Cmp(pps) > 0 {
			pps = wanted
		}
	}
	cpu, memory := demand(pod)
	if cpu.Cmp(s.CPU) > 0 || memory.Cmp(s.Memory) > 0 || pps.Cmp(s.PPS) > 0 {
		return admission.Denied(fmt.Sprintf("no size of class %q holds the pod", s.Name))
	}
	s.size(pod, pps)
	after, err := json.Marshal(pod)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	return admission.PatchResponseFromRaw(request.Object.Raw, after)
}

// demand sums up what the containers may take: the limit, else the request.
func demand(pod *corev1.Pod) (cpu, memory resource.Quantity) {
	for _, container := range pod.Spec.Containers {
		for name, sum := range map[corev1.ResourceName]*resource.Quantity{
			corev1.ResourceCPU: &cpu, corev1.ResourceMemory: &memory,
		} {
			wanted, limited := container.Resources.Limits[name]
			if !limited {
				wanted = container.Resources.Requests[name]
			}
			sum.Add(wanted)
		}
	}
	return cpu, memory
}

func (s *sizer) size(pod *corev1.Pod, pps resource.Quantity) {
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[s.Domain+"size"] = s.Size
	pod.Annotations[s.Domain+"record"] = s.Record
	pod.Spec.Affinity = s.Affinity
	name, first := corev1.ResourceName(s.Domain+"pps"), &pod.Spec.Containers[0].Resources
	if first.Requests == nil {
		first.Requests = corev1.ResourceList{}
	}
	if first.Limits == nil {
		first.Limits = corev1.ResourceList{}
	}
	first.Requests[name], first.Limits[name] = pps, pps
}

// Run as: webhook PORT CERTIFICATE KEY CLASS, the last a JSON file; both PEM files are in one folder.
func main() {
	log.SetLogger(logr.Discard())
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(port, certificate, key, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return err
	}
	handler := &sizer{decoder: admission.NewDecoder(scheme)}
	if err := json.Unmarshal(text, &handler.Class); err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	server := webhook.NewServer(webhook.Options{
		Host: "127.0.0.1", Port: number, CertDir: filepath.Dir(certificate),
		CertName: filepath.Base(certificate), KeyName: filepath.Base(key),
	})
	server.Register("/mutate", &webhook.Admission{Handler: handler})
	stopped, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return server.Start(stopped)
}
