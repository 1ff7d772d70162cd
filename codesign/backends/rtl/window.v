`timescale 1 ns / 1 ps

// The windows of a convolution over an image whose pixels come one by one, row by row.
//
// Pixels shift through a line of KERNEL - 1 image rows and a few registers. A window belongs to one pixel, its anchor
// in row and column PADDING of the window, and is complete LAG shifts after the anchor came. Windows over the edge
// reach into pixels of another row or image, which are masked with zeros. If nothing follows an image, empty beats
// push its last windows out; they are told from pixels by a bit that shifts along.
//
// Needs 2 * PADDING < KERNEL, so that there is at most one window for each pixel.
module window #(
    parameter WIDTH = 8,    // bits of a pixel, all channels
    parameter ROWS = 4,
    parameter COLUMNS = 4,
    parameter KERNEL = 3,
    parameter PADDING = 0,
    parameter STRIDE = 1
) (
    input clk,
    input resetn,
    input valid_in,
    input [WIDTH-1:0] data_in,
    output shift,           // a pixel or an empty beat moves everything on by one
    output valid_out,
    output [KERNEL*KERNEL*WIDTH-1:0] data_out  // by row, then column of the window
);
    localparam AFTER = KERNEL - 1 - PADDING;  // rows below the anchor, and columns right of it
    localparam LAG = AFTER * (COLUMNS + 1);
    
    reg [$clog2(ROWS+1)-1:0] row;  // of the anchor
    reg [$clog2(COLUMNS+1)-1:0] column;
    wire is_pixel;                 // at the anchor
    wire is_pending;               // pixels that have not been an anchor yet
    wire is_between, is_last;      // images
    wire [KERNEL*WIDTH-1:0] newest;                      // the newest column of the window, top to bottom
    wire [KERNEL*KERNEL*WIDTH-1:0] columns;              // the oldest column first

    wire [ROWS-1:0] is_window_row;  // constants, so that no stride needs a division
    wire [COLUMNS-1:0] is_window_column;

    assign shift = valid_in || (is_pending && is_between);
    assign valid_out = shift && is_pixel && is_window_row[row] && is_window_column[column];

    beat_counter #(.BEATS(ROWS * COLUMNS)) received (
        .clk(clk), .resetn(resetn), .valid(valid_in), .is_first(is_between), .is_last(is_last)
    );

    always @(posedge clk) begin
        if (!resetn) begin
            row <= 0;
            column <= 0;
        end else if (shift && is_pixel) begin
            column <= column == COLUMNS - 1 ? 0 : column + 1'b1;
            if (column == COLUMNS - 1) row <= row == ROWS - 1 ? 0 : row + 1'b1;
        end
    end

    genvar i, j;
    generate
        for (i = 0; i < ROWS; i = i + 1) begin : rows
            assign is_window_row[i] = i % STRIDE == 0 && i + KERNEL <= ROWS + 2 * PADDING;
        end
        for (i = 0; i < COLUMNS; i = i + 1) begin : image_columns
            assign is_window_column[i] = i % STRIDE == 0 && i + KERNEL <= COLUMNS + 2 * PADDING;
        end

        assign newest[(KERNEL-1)*WIDTH +: WIDTH] = data_in;
        assign columns[(KERNEL-1)*KERNEL*WIDTH +: KERNEL*WIDTH] = newest;
        if (KERNEL == 1) begin : point
            assign is_pixel = valid_in;
            assign is_pending = 1'b0;
        end else begin : area
            reg [LAG-1:0] are_pixels;
            reg [(KERNEL-1)*WIDTH-1:0] lines [0:COLUMNS-1];
            reg [$clog2(COLUMNS+1)-1:0] place;
            reg [(KERNEL-1)*KERNEL*WIDTH-1:0] earlier;

            assign is_pixel = are_pixels[LAG-1];
            assign is_pending = |are_pixels;
            assign newest[0 +: (KERNEL-1)*WIDTH] = lines[place];
            assign columns[0 +: (KERNEL-1)*KERNEL*WIDTH] = earlier;

            always @(posedge clk) begin
                if (shift) begin
                    lines[place] <= newest[WIDTH +: (KERNEL-1)*WIDTH];
                    earlier <= columns[KERNEL*WIDTH +: (KERNEL-1)*KERNEL*WIDTH];
                end
                if (!resetn) begin
                    are_pixels <= 0;
                    place <= 0;
                end else if (shift) begin
                    are_pixels <= LAG == 1 ? valid_in : {are_pixels, valid_in};
                    place <= place == COLUMNS - 1 ? 0 : place + 1'b1;
                end
            end
        end

        for (i = 0; i < KERNEL; i = i + 1) begin : window_rows
            for (j = 0; j < KERNEL; j = j + 1) begin : window_columns
                wire is_inside = PADDING == 0 || (row + i >= PADDING && row + i < ROWS + PADDING
                    && column + j >= PADDING && column + j < COLUMNS + PADDING);
                assign data_out[(i*KERNEL+j)*WIDTH +: WIDTH] =
                    columns[(j*KERNEL+i)*WIDTH +: WIDTH] & {WIDTH{is_inside}};
            end
        end
    endgenerate
endmodule
