// Sends requests with Go's net/http.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	address, body := os.Args[1], os.Args[2]
	count, _ := strconv.Atoi(os.Args[3])
	seconds, _ := strconv.Atoi(os.Args[4])
	deadline := time.Now().Add(time.Duration(seconds) * time.Second)
	client := &http.Client{Timeout: 5 * time.Second}
	good := 0
	for number := 0; number < count && time.Now().Before(deadline); number++ {
		if number%10 == 0 {
			client.CloseIdleConnections()
		}
		var content io.Reader = strings.NewReader(body)
		if number%2 == 1 {
			// Of unknown length: it goes out in chunks.
			content = io.MultiReader(content)
		}
		answer, err := client.Post(address, "application/json", content)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		said, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err == nil && answer.StatusCode == 200 && strings.Contains(string(said), "predictions") {
			good++
		}
	}
	fmt.Println(good)
}
