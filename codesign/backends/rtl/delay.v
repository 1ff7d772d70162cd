`timescale 1 ns / 1 ps

// What came in DEPTH shifts ago: it accompanies the anchor of a window.
module delay #(
    parameter WIDTH = 8,
    parameter DEPTH = 1
) (
    input clk,
    input resetn,
    input shift,
    input [WIDTH-1:0] data_in,
    output [WIDTH-1:0] data_out
);
    reg [WIDTH-1:0] line [0:DEPTH-1];
    reg [$clog2(DEPTH+1)-1:0] place;
    assign data_out = line[place];
    always @(posedge clk) begin
        if (shift) line[place] <= data_in;
        if (!resetn) place <= 0;
        else if (shift) place <= place == DEPTH - 1 ? 0 : place + 1'b1;
    end
endmodule
